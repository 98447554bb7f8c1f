"""Published weights that can be installed by name: where their files are, who made them and under which licence.

The project ships none of them. No publisher states a checksum, so `catalog.install` records a file's SHA-256 at its
first installation and accepts no other file later.
"""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.catalog.totalsegmentator import CONFIGURATION, FOLDS, REFUSED, TASKS, Task
from orthanc_plugin.errors import ConfigError

TOTALSEGMENTATOR = "totalsegmentator"
_RELEASES = "https://github.com/wasserth/TotalSegmentator/releases/download"


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of published weights.

    identifier: SPDX identifier, if the publisher states one.
    condition: why the user must accept them before use; empty if that is not needed.
    """

    identifier: str
    url: str
    terms: str
    condition: str = ""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download; sha256 and size if the publisher states them."""

    name: str
    url: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What `models install NAME` installs.

    model: default name of the model.
    configurations, folds: what is converted by default; None means all folds.
    """

    name: str
    model: str
    files: tuple[RemoteFile, ...]
    licence: Licence
    configurations: tuple[str, ...]
    folds: tuple[int, ...] | None


CC_BY_NC = Licence(
    "CC-BY-NC-4.0",
    "https://creativecommons.org/licenses/by-nc/4.0/legalcode",
    "Creative Commons Attribution-NonCommercial 4.0 International: you may use, share and adapt these weights for"
    " purposes that are not commercial, and must name their authors. What is converted from them, and what they find,"
    " stays under these terms; this project gives you no right beyond them.",
    "for non-commercial use only",
)
APACHE = Licence(
    "Apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "Apache License 2.0, as the README of TotalSegmentator states for its open tasks. Other places list other terms for"
    " copies of these weights; yours come from TotalSegmentator's own releases.",
)
UNSTATED = Licence(
    "a licence that is not stated",
    "https://zenodo.org/record/5113483",
    "The code of BodyPartRegression is under Apache-2.0; its repository does not say under which terms the weights are,"
    " and this project could not find out: read them at the record before you use them. What is converted from"
    " them, and what they find, stays under these terms; this project gives you no right beyond them.",
    "which you have to read at their record",
)

SEGTHOR = Record(
    name="segthor",
    model="segthor",
    files=(
        RemoteFile("Task055_SegTHOR.zip", "https://zenodo.org/record/4003545/files/Task055_SegTHOR.zip?download=1"),
    ),
    licence=CC_BY_NC,
    configurations=(CONFIGURATION,),
    folds=None,
)
"""Esophagus, heart, trachea and aorta, nnU-Net v1.

Source: nnU-Net 1.7.1, `inference/pretrained_models/download_pretrained_model.py`; licence: MHub, `nnunet_segthor`.
"""

BPR = Record(
    name="bpr",
    model="bpr",
    files=(
        RemoteFile("public_bpr_model.zip", "https://zenodo.org/record/5113483/files/public_bpr_model.zip?download=1"),
    ),
    licence=UNSTATED,
    configurations=(),
    folds=None,
)
"""BodyPartRegression: finds where in the body a CT lies.

Source: bpreg 1.1.0, `bpreg/scripts/initialize_pretrained_model.py`.
"""


def record_of(name: str) -> Record:
    """Find the record of `segthor`, `bpr` or `totalsegmentator:TASK`.

    Raises
    ------
    ConfigError
        If there is no record of this name, or the task cannot be installed; the message says why.
    """
    publisher, _, task = name.partition(":")
    for record in (SEGTHOR, BPR):
        if name == record.name:
            return record
    if publisher == TOTALSEGMENTATOR and task in TASKS:
        return _record_of_task(TASKS[task])
    if publisher == TOTALSEGMENTATOR and task in REFUSED:
        raise ConfigError(f"{name} cannot be installed: {REFUSED[task]}")
    raise ConfigError(f"there is no record {name!r}; the known ones are: {', '.join(known_records())}")


def known_records() -> tuple[str, ...]:
    """Return the names that `record_of` accepts."""
    return (SEGTHOR.name, BPR.name, *(f"{TOTALSEGMENTATOR}:{task}" for task in TASKS))


def _record_of_task(task: Task) -> Record:
    return Record(
        name=f"{TOTALSEGMENTATOR}:{task.name}",
        model=f"{TOTALSEGMENTATOR}_{task.name}",
        files=tuple(
            RemoteFile(f"{dataset.folder}.zip", f"{_RELEASES}/{dataset.release}/{dataset.folder}.zip")
            for dataset in task.datasets
        ),
        licence=APACHE,
        configurations=(CONFIGURATION,),
        folds=FOLDS,
    )
