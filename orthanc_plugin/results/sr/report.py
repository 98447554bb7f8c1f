"""What every report shares: TID 1500 root, who observed, what it says of itself, and the equipment around it.

Comprehensive 3D SR, every container SEPARATE and no image library, because that is what OHIF shows as readable text.
The report is unverified, made by a device, and says so in words as its first content.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from highdicom import ContributingEquipment, sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.algorithm import (
    MANUFACTURER,
    PRODUCT,
    RESEARCH_USE,
    concept,
    model_equipment,
    series_description,
)
from orthanc_plugin.results.headers import CHARACTER_SET, complete, result_headers

Group = (
    sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)

_COMMENT = CodedConcept("121106", "DCM", "Comment")


def encode_report(
    series: CtSeries,
    seg: Dataset | Sequence[Dataset] | None,
    groups: Sequence[Group],
    card: ModelCard,
    *,
    sop_instance_uid: str,
    provider: str = "",
    created: datetime,
    title: Code,
    description: str,
    series_number: int,
    notes: Sequence[str],
    algorithms: Sequence[ContributingEquipment] = (),
) -> Dataset:
    """Put measurement groups into a report in a series of its own.

    Parameters
    ----------
    seg : Dataset, sequence of Dataset, or None
        Evidence beside the source: the stored SEGs that the groups speak of, None where they speak of slices alone.
    card : ModelCard
        The model that the report speaks for.
    provider : str
        Where the model ran, "" where that is not known.
    description : str
        What the report holds; SeriesDescription begins with it.
    algorithms : sequence of ContributingEquipment
        What contributed beside that model: other models, radiomics, checks.

    Raises
    ------
    EncodingError
        If there is no group: a report without a finding is never written.
    """
    if not groups:
        raise EncodingError("a report without a measurement group is never written")
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=_device(card)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=concept(title),
    )
    _say(content[0], (f"{RESEARCH_USE}. Made by {card.name} {card.version}; nobody has verified it.", *notes))
    separate(content[0])
    ds = sr.Comprehensive3DSR(
        [*result_headers(series), *_evidence(seg)],
        content,
        series_instance_uid=identity.series_uid(sop_instance_uid),
        series_number=series_number,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=PRODUCT,
        software_versions=__version__,
        device_serial_number=card.digest,
        is_complete=True,
        contributing_equipment=[model_equipment(card, created, provider), *algorithms],
        series_description=series_description(description, card),
        content_qualification="RESEARCH",
        specific_character_set=CHARACTER_SET,
    )
    complete(ds, series, created)
    _name_private_scheme(ds)
    return ds


def _evidence(seg: Dataset | Sequence[Dataset] | None) -> Sequence[Dataset]:
    if seg is None:
        return ()
    return (seg,) if isinstance(seg, Dataset) else seg


def _device(card: ModelCard) -> sr.ObserverContext:
    return sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(
            uid=identity.device_uid(card.digest),
            name=f"{card.name} {card.version}",
            manufacturer_name=MANUFACTURER,
            model_name=PRODUCT,
        ),
    )


def _say(root: Dataset, texts: Sequence[str]) -> None:
    """Comments before the measurements (TID 1500 is extensible): a reader meets them first."""
    items = [sr.TextContentItem(_COMMENT, text, sr.RelationshipTypeValues.CONTAINS) for text in texts]
    content = list(root.ContentSequence)
    root.ContentSequence = sr.ContentSequence([*content[:-1], *items, content[-1]])


def separate(item: Dataset) -> None:
    """Every container SEPARATE: its items do not run together as prose."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        separate(child)


def _name_private_scheme(ds: Dataset) -> None:
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "Concepts of orthanc-enrichment that no standard scheme holds"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    ds.CodingSchemeIdentificationSequence = [item]
