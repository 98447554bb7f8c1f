"""Who made a result: this software, the model behind it, and how it ran.

The same facts in the three forms the standard wants: an algorithm identification in each segment (PS3.3 10.16), one in
each measurement group (PS3.16 TID 4019), and an item of contributing equipment for each algorithm: the model, whose
DeviceUID follows its weights, the radiomics, the quality checks (IHE AIR asks for one per algorithm).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib import metadata

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
        card.name[:64],
        concept(FAMILY),
        card.version[:64],
        source=card.manufacturer[:64],
        parameters=parameters(card, provider),
    )


def group_algorithm(card: ModelCard, provider: str, more: Sequence[str] = ()) -> highdicom.sr.AlgorithmIdentification:
    """Algorithm identification of a measurement group (TID 4019); `more`: further parameters, one text each."""
    texts = [f"{name}={value}" for name, value in parameters(card, provider).items()]
    return highdicom.sr.AlgorithmIdentification(
        card.name, card.version, parameters=[*texts, *more], family=concept(FAMILY), manufacturer=card.manufacturer
    )


def series_description(kind: str, card: ModelCard) -> str:
    """SeriesDescription of a result: its kind comes first, so that no cut to 64 characters loses it."""
    return f"AI research: {kind} by {card.name} {card.version}"[:64]


def model_equipment(card: ModelCard, created: datetime, provider: str = "") -> highdicom.ContributingEquipment:
    """The model; its DeviceUID changes when it is retrained. `provider`: where it ran, "" where that is not known."""
    known = "; ".join(f"{name}={value}" for name, value in parameters(card, provider).items() if value)
    return _equipment(card.manufacturer, card.name, [card.version], card.digest, created, f"Model: {known}")


def radiomics_equipment(description: str, created: datetime) -> highdicom.ContributingEquipment:
    """The software that measures radiomics; `description`: its parameters, as `radiomics.parameters` describes them."""
    versions = [f"{PRODUCT} {__version__}", f"pyradiomics {metadata.version('pyradiomics')}"]
    text = f"Radiomics: {description}"
    return _equipment(MANUFACTURER, f"{PRODUCT} radiomics", versions, ", ".join(versions), created, text)


def checks_equipment(created: datetime) -> highdicom.ContributingEquipment:
    """The software that checks masks."""
    version = f"{PRODUCT} {__version__}"
    name = f"{PRODUCT} quality checks"
    return _equipment(MANUFACTURER, name, [version], f"{name} {version}", created, "Quality checks of masks")


def _equipment(
    manufacturer: str, model_name: str, versions: Sequence[str], identity_of: str, created: datetime, description: str
) -> highdicom.ContributingEquipment:
    """Processing equipment (DCM 109102); IHE AIR's own purpose code is not used, since we could not verify it."""
    item = highdicom.ContributingEquipment(
        manufacturer=manufacturer[:64],
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=model_name[:64],
        software_versions=[version[:64] for version in versions],
        contribution_datetime=created,
        contribution_description=description[:1024],
    )
    item.DeviceUID = identity.device_uid(identity_of)
    return item
