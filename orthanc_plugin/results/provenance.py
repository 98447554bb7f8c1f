"""Provenance of a result: its source series, its UID, and the model and software that made it.

The standard asks for the same facts in three forms: an algorithm identification in each segment (PS3.3 10.16), one in
each measurement group (PS3.16 TID 4019), and one item of contributing equipment for each algorithm (IHE AIR). The
DeviceUID of a model follows its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from typing import TypedDict

import highdicom
from pydicom.sr.codedict import codes

from orthanc_plugin import RESULTS_VERSION, __version__, identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.concepts import concept

MANUFACTURER = "orthanc-enrichment project"
PRODUCT = "orthanc-enrichment"
RESEARCH_USE = "Research use only, not for diagnosis"
FAMILY = Code("123110", "DCM", "Artificial Intelligence")
CHARACTER_SET = "ISO_IR 192"
"""UTF-8, for every result: it can hold any name, whatever the source declares."""


class SopArguments(TypedDict):
    """Arguments that the constructors of all highdicom objects share."""

    series_instance_uid: str
    series_number: int
    sop_instance_uid: str
    instance_number: int
    manufacturer: str
    manufacturer_model_name: str
    software_versions: str
    device_serial_number: str
    series_description: str
    content_qualification: str
    specific_character_set: str


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """Who made one DICOM object, from what and when.

    series: the source.
    card: the model that the object speaks for.
    sop_instance_uid: UID of the object.
    provider: execution provider that ran the model, "" if unknown.
    created: time that the object states as its creation.
    """

    series: CtSeries
    card: ModelCard
    sop_instance_uid: str
    provider: str
    created: datetime

    @property
    def model(self) -> str:
        """Name and version of the model."""
        return f"{self.card.name} {self.card.version}"

    @property
    def parameters(self) -> dict[str, str]:
        """What a reader needs to repeat the run: digest of card and weights, execution provider, output version."""
        return {
            "model_sha256": self.card.digest,
            "provider": self.provider,
            "software": f"{PRODUCT} {__version__}",
            "results_version": str(RESULTS_VERSION),
        }

    @property
    def parameter_texts(self) -> list[str]:
        """The parameters, each as one text."""
        return [f"{name}={value}" for name, value in self.parameters.items()]

    def sop_arguments(self, kind: str, series_number: int) -> SopArguments:
        """Arguments for a highdicom object in a series of its own.

        Parameters
        ----------
        kind : str
            What the object holds. SeriesDescription names it first, so that a cut to 64 characters cannot lose it.
        series_number : int
            SeriesNumber of all objects of this kind.
        """
        return {
            "series_instance_uid": identity.series_uid(self.sop_instance_uid),
            "series_number": series_number,
            "sop_instance_uid": self.sop_instance_uid,
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": PRODUCT,
            "software_versions": __version__,
            "device_serial_number": self.card.digest,
            "series_description": f"AI research: {kind} by {self.model}"[:64],
            "content_qualification": "RESEARCH",
            "specific_character_set": CHARACTER_SET,
        }

    def segment_algorithm(self) -> highdicom.AlgorithmIdentificationSequence:
        """Identify the model in a segment."""
        return highdicom.AlgorithmIdentificationSequence(
            self.card.name[:64],
            concept(FAMILY),
            self.card.version[:64],
            source=self.card.manufacturer[:64],
            parameters=self.parameters,
        )

    def group_algorithm(self, more: Sequence[str] = ()) -> highdicom.sr.AlgorithmIdentification:
        """Identify the model in a measurement group (TID 4019); `more` adds parameters, one text each."""
        return highdicom.sr.AlgorithmIdentification(
            self.card.name,
            self.card.version,
            parameters=[*self.parameter_texts, *more],
            family=concept(FAMILY),
            manufacturer=self.card.manufacturer,
        )

    def equipment(self) -> highdicom.ContributingEquipment:
        """Describe the model as contributing equipment; its DeviceUID changes when the model is retrained."""
        known = "; ".join(f"{name}={value}" for name, value in self.parameters.items() if value)
        card = self.card
        return _equipment(card.manufacturer, card.name, [card.version], card.digest, self.created, f"Model: {known}")


def radiomics_equipment(description: str, created: datetime) -> highdicom.ContributingEquipment:
    """Describe the software that measures radiomics.

    Parameters
    ----------
    description : str
        Its parameters, as `radiomics.parameters` describes them.
    created : datetime
        When it ran.
    """
    versions = [f"{PRODUCT} {__version__}", f"pyradiomics {metadata.version('pyradiomics')}"]
    text = f"Radiomics: {description}"
    return _equipment(MANUFACTURER, f"{PRODUCT} radiomics", versions, ", ".join(versions), created, text)


def checks_equipment(created: datetime) -> highdicom.ContributingEquipment:
    """Describe the software that checks masks."""
    version = f"{PRODUCT} {__version__}"
    name = f"{PRODUCT} quality checks"
    return _equipment(MANUFACTURER, name, [version], f"{name} {version}", created, "Quality checks of masks")


def _equipment(
    manufacturer: str, model_name: str, versions: Sequence[str], identity_of: str, created: datetime, description: str
) -> highdicom.ContributingEquipment:
    """Describe processing equipment (DCM 109102); IHE AIR has a purpose code of its own, which we could not verify."""
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
