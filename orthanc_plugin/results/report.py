"""What every report shares: TID 1500 root, who observed, what it says of itself, and the equipment around it.

Comprehensive 3D SR, every container SEPARATE and no image library, because that is what OHIF shows as readable text.
The report is unverified, made by a device, and says so in words as its first content.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin import __version__, identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.ct import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.algorithm import MANUFACTURER, PRODUCT, RESEARCH_USE, concept, contributing_equipment
from orthanc_plugin.results.headers import CHARACTER_SET, complete, result_headers

Group = (
    sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)

_COMMENT = CodedConcept("121106", "DCM", "Comment")


def encode_report(
    series: CtSeries,
    seg: Dataset | None,
    groups: Sequence[Group],
    card: ModelCard,
    *,
    sop_instance_uid: str,
    created: datetime,
    title: Code,
    description: str,
    series_number: int,
    notes: Sequence[str],
) -> Dataset:
    """Put measurement groups into a report in a series of its own.

    Parameters
    ----------
    seg : Dataset or None
        Evidence beside the source: the stored SEG that the groups speak of, None where they speak of slices alone.

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
        result_headers(series) if seg is None else [*result_headers(series), seg],
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
        contributing_equipment=[contributing_equipment(card, created)],
        series_description=f"AI research: {card.name} {card.version} {description}"[:64],
        content_qualification="RESEARCH",
        specific_character_set=CHARACTER_SET,
    )
    complete(ds, series, created)
    _name_private_scheme(ds)
    return ds


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
