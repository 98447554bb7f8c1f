"""Build a report: the TID 1500 root, its observer, its statement of research use and its contributing equipment.

Reports are Comprehensive 3D SR with every container SEPARATE and no image library, because OHIF shows that as readable
text. A report is unverified and made by a device, and its first content says so in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from highdicom import ContributingEquipment, sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin import identity
from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.headers import complete, result_headers
from orthanc_plugin.results.provenance import MANUFACTURER, PRODUCT, Provenance, statements_of
from orthanc_plugin.results.sr.content import comment

Group = (
    sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)


def encode_report(
    provenance: Provenance,
    groups: Sequence[Group],
    *,
    title: Code,
    kind: Output,
    notes: Sequence[str],
    evidence: Sequence[Dataset] = (),
    algorithms: Sequence[ContributingEquipment] = (),
    parameters: Sequence[str] = (),
) -> Dataset:
    """Put measurement groups into a report in a series of its own.

    Parameters
    ----------
    provenance : Provenance
        Source, model and UID of the report.
    groups : sequence of Group
        The measurement groups, at least one.
    title : Code
        Document title.
    kind : Output
        What the report holds.
    notes : sequence of str
        Comments that follow the statement of research use.
    evidence : sequence of Dataset
        The stored SEGs that the groups speak of, beside the source.
    algorithms : sequence of ContributingEquipment
        What contributed beside the model: other models, radiomics, checks.
    parameters : sequence of str
        Parameters that the groups share, beside those of the model. They are stated once, before the groups.

    Raises
    ------
    EncodingError
        If there is no group: a report without a finding is never written.
    """
    if not groups:
        raise EncodingError("a report without a measurement group is never written")
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=device_observer(provenance)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups[:1],  # all are added below: highdicom copies each, and that is slow
        title=concept(title),
    )
    _add_before_measurements(content[0], map(comment, (*statements_of(provenance.card), *notes)))
    _add_before_measurements(content[0], map(_parameter, (*provenance.parameter_texts, *parameters)))
    separate(content[0])
    ds = sr.Comprehensive3DSR(
        [*result_headers(provenance.series), *evidence],
        content,
        is_complete=True,
        contributing_equipment=[provenance.equipment(), *algorithms],
        **provenance.sop_arguments(kind),
    )
    complete(ds, provenance, kind)
    _name_private_scheme(ds)
    ds.ContentSequence[-1].add_new("ContentSequence", "SQ", [])
    add_groups(ds, [group for (group,) in groups])
    return ds


def add_groups(ds: Dataset, groups: Iterable[Dataset]) -> None:
    """Append measurement groups to a report."""
    for group in groups:
        separate(group)
        ds.ContentSequence[-1].ContentSequence.append(group)


def device_observer(provenance: Provenance) -> sr.ObserverContext:
    """Name the model as what observed; no person did."""
    return sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(
            uid=identity.device_uid(provenance.card.digest),
            name=provenance.model,
            manufacturer_name=MANUFACTURER,
            model_name=PRODUCT,
        ),
    )


def _add_before_measurements(root: Dataset, items: Iterable[sr.TextContentItem]) -> None:
    """Put texts before the measurements (TID 1500 is extensible), so that a reader meets them first."""
    *before, measurements = root.ContentSequence
    root.ContentSequence = sr.ContentSequence([*before, *items, measurements])


def _parameter(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.AlgorithmParameters, text, sr.RelationshipTypeValues.CONTAINS)


def separate(item: Dataset) -> None:
    """Make every container SEPARATE, so that viewers do not run its items together as prose."""
    if item.ValueType == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        separate(child)


def _name_private_scheme(ds: Dataset) -> None:
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "Private concepts of orthanc-enrichment"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    ds.CodingSchemeIdentificationSequence = [item]
