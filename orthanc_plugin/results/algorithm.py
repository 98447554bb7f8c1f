"""Who made a result: this software, the model behind it, and how it ran.

The same facts in the three forms the standard wants: an algorithm identification in each segment (PS3.3 10.16), one in
each measurement group (PS3.16 TID 4019), and an item of contributing equipment whose DeviceUID follows the weights
(IHE AIR asks for one per algorithm).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import highdicom
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from orthanc_plugin import RESULTS_VERSION, __version__, identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code

MANUFACTURER = "orthanc-enrichment project"
PRODUCT = "orthanc-enrichment"
RESEARCH_USE = "Research use only, not for diagnosis"
FAMILY = Code("123110", "DCM", "Artificial Intelligence")


def concept(code: Code) -> CodedConcept:
    """The code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def parameters(card: ModelCard, provider: str) -> dict[str, str]:
    """What a reader needs to repeat the run: digest of card and weights, execution provider, our output version."""
    return {
        "model_sha256": card.digest,
        "provider": provider,
        "software": f"{PRODUCT} {__version__}",
        "results_version": str(RESULTS_VERSION),
    }


def segment_algorithm(card: ModelCard, provider: str) -> highdicom.AlgorithmIdentificationSequence:
    """Algorithm identification of a segment."""
    return highdicom.AlgorithmIdentificationSequence(
        card.name, concept(FAMILY), card.version, source=card.manufacturer, parameters=parameters(card, provider)
    )


def group_algorithm(card: ModelCard, provider: str, more: Sequence[str] = ()) -> highdicom.sr.AlgorithmIdentification:
    """Algorithm identification of a measurement group (TID 4019); `more`: further parameters, one text each."""
    texts = [f"{name}={value}" for name, value in parameters(card, provider).items()]
    return highdicom.sr.AlgorithmIdentification(
        card.name, card.version, parameters=[*texts, *more], family=concept(FAMILY), manufacturer=card.manufacturer
    )


def contributing_equipment(card: ModelCard, created: datetime) -> highdicom.ContributingEquipment:
    """The model as processing equipment (DCM 109102), with the DeviceUID that changes when it is retrained."""
    item = highdicom.ContributingEquipment(
        manufacturer=card.manufacturer[:64],
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=card.name[:64],
        software_versions=card.version[:64],
        contribution_datetime=created,
        contribution_description="Processing algorithm",
    )
    item.DeviceUID = identity.device_uid(card.digest)
    return item
