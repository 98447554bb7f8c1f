"""Look up who made a published model, by the task it was trained for."""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.catalog.records import APACHE, CC_BY_NC, UNSTATED
from orthanc_plugin.catalog.totalsegmentator import TASKS

NNUNET = "Isensee et al., nnU-Net, Nature Methods 18 (2021) 203, doi:10.1038/s41592-020-01008-z"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Maker, licence and citation of weights. terms: text of the licence; test_model: trained on phantoms only."""

    manufacturer: str
    licence: str
    citation: str
    terms: str = ""
    test_model: bool = False


BPR = "Schuhegger, Body Part Regression for CT Images, arXiv:2110.09148"

_NOT_STATED = "not stated; ask the publisher of the weights before you use them"
_UNKNOWN = Provenance("not stated", _NOT_STATED, NNUNET)
_SEGTHOR = Provenance(
    "MIC-DKFZ, Heidelberg",
    "CC BY-NC 4.0 (weights; not for commercial use)",
    f"{NNUNET}; data: Lambert et al., SegTHOR, IPTA 2020, arXiv:1912.05950",
    f"{CC_BY_NC.terms}\n{CC_BY_NC.url}",
)
_TOTALSEGMENTATOR = Provenance(
    "University Hospital Basel",
    APACHE.identifier,
    f"Wasserthal et al., Radiology: Artificial Intelligence 5 (2023) e230024, doi:10.1148/ryai.230024; {NNUNET}",
    f"{APACHE.terms}\n{APACHE.url}",
)
_STANDIN = Provenance(
    "Orthanc Enrichment",
    "AGPL-3.0-or-later",
    f"This project, scripts/train_thorax_standin.py; {NNUNET}",
    test_model=True,
)
_STANDINS = ("Dataset555_ThoraxStandin", "Task555_ThoraxStandin")


def provenance_of(task: str) -> Provenance:
    """Look up a task; the licence is the one that the publisher states for the weights."""
    if task == "Task055_SegTHOR":
        return _SEGTHOR
    if task in _STANDINS:
        return _STANDIN
    return _TOTALSEGMENTATOR if task in TASKS else _UNKNOWN


_BPR = Provenance("MIC-DKFZ, Heidelberg", _NOT_STATED, f"{BPR}; {UNSTATED.url}", f"{UNSTATED.terms}\n{UNSTATED.url}")
_BPR_UNKNOWN = Provenance("not stated", _NOT_STATED, BPR)
_BPR_STANDIN = Provenance(
    "Orthanc Enrichment",
    "AGPL-3.0-or-later",
    f"This project, scripts/train_bpr_standin.py; {BPR}",
    test_model=True,
)


def provenance_of_bpr(folder: str, published: bool) -> Provenance:
    """Look up a body part regression by its folder's name; `published`: its network shows that it is the public one."""
    if folder == "bpr_standin":
        return _BPR_STANDIN
    return _BPR if published or folder == "public_bpr_model" else _BPR_UNKNOWN
