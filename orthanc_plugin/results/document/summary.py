"""Summarise the result of one model on one page: an Encapsulated PDF (DICOM PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom
from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.results.concepts import concept
from orthanc_plugin.results.document.page import Page, Row, to_pdf
from orthanc_plugin.results.headers import complete, first_header, image_references
from orthanc_plugin.results.listing import source_name
from orthanc_plugin.results.provenance import Provenance, is_ai, statements_of, status_of, warning_of
from orthanc_plugin.results.sc import drawing
from orthanc_plugin.results.sc.image import recognizable
from orthanc_plugin.results.sc.preview import grid, planes_of

SETTINGS = "one A4 page: 8 planes, volumes, checks, provenance"
"""What decides the document beside SEG, checks and title; enters the SOPInstanceUID."""

NOT_CHECKED = "Not run: the rule does not ask for quality checks."
_PASSED = "Every check that applies passed. That does not mean that a mask is correct."


def encode_summary(
    provenance: Provenance,
    seg: Dataset,
    segmentation: Segmentation,
    *,
    title: Code,
    checks: Sequence[CheckResult] | None = None,
) -> Dataset:
    """Encode the summary of one stored SEG in a series of its own.

    Parameters
    ----------
    seg : Dataset
        The SEG as stored.
    segmentation : Segmentation
        What `decode_seg` reads from it.
    title : Code
        Coded title of the document, as that of the reports.
    checks : sequence of CheckResult, optional
        Results of the quality checks of the job, of any model; None if they were not run.

    Returns
    -------
    Dataset
        BurnedInAnnotation is NO: nothing in it identifies patient and date (PS3.3 C.24.2).

    Raises
    ------
    EncodingError
        If there is no segment.
    """
    pdf = to_pdf(page_of(provenance, segmentation, checks))
    header = first_header(provenance.series)
    ds = SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **provenance.sop_arguments(Output.SUMMARY_PDF),
    )
    ds.copy_patient_and_study_information(header)
    scanner = header.get("Manufacturer")
    acquired = [highdicom.ContributingEquipment.for_image_acquisition(header)] if scanner else []
    ds.ContributingEquipmentSequence = [*acquired, provenance.equipment()]
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "NO"
    if (shows := recognizable(provenance.source, shows_profile=True)) is not None:
        ds.RecognizableVisualFeatures = shows
    ds.SourceInstanceSequence = image_references([*provenance.series.headers, seg])
    for source in ds.SourceInstanceSequence:  # instances only, unlike SourceImageSequence
        source.pop("ReferencedFrameNumber", None)
    ds.DocumentTitle = f"Summary of {provenance.model}, {status_of(provenance.card)}"
    ds.ConceptNameCodeSequence = [concept(title)]
    ds.VerificationFlag = "UNVERIFIED"
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.add_new("EncapsulatedDocument", "OB", pdf + b"\0" * (len(pdf) % 2))
    complete(ds, provenance, Output.SUMMARY_PDF)
    return ds


def pdf_of(ds: Dataset) -> bytes:
    """Return the PDF of a stored summary, without padding."""
    return bytes(ds.EncapsulatedDocument)[: ds.EncapsulatedDocumentLength]


def page_of(provenance: Provenance, segmentation: Segmentation, checks: Sequence[CheckResult] | None) -> Page:
    """Say what the page of one result says."""
    series, card, segments = provenance.series, provenance.card, segmentation.segments
    shown = planes_of(series, segmentation)
    window = drawing.window_of(shown, segments)
    own = None if checks is None else [result for result in checks if result.model == card.name]
    volumes_ml = (voxels * series.volume.voxel_ml for voxels in segmentation.voxels())
    facts = {"model": provenance.model, "maker": card.manufacturer, "method": card.family.meaning}
    return Page(
        title=f"Summary of {provenance.model}",
        warning=f"{warning_of(card)}. {'AI' if is_ai(card) else 'Software'} result, not verified by a physician.",
        source=f"Made of CT {source_name(provenance.source)}; {window} window.",
        picture=grid(series, segmentation, shown, window),
        rows=tuple(
            Row(segment.colour, segment.label, drawing.volume_text(volume_ml), _checked(segment, own))
            for segment, volume_ml in zip(segments, volumes_ml, strict=True)
        ),
        failed=_failed(own, segments),
        statements=tuple(dict.fromkeys((*statements_of(card), *series.marks, *series.notes, *segmentation.notes))),
        facts=(*facts.items(), *provenance.parameters.items()),
    )


def _checked(segment: Segment, results: Sequence[CheckResult] | None) -> str:
    if results is None:
        return "not checked"
    own = [result for result in results if result.segment_number == segment.number]
    failed = [result.check.value for result in own if not result.passed]
    return f"FAILED: {', '.join(failed)}" if failed else f"{len(own)} of {len(own)} passed" if own else "none applies"


def _failed(results: Sequence[CheckResult] | None, segments: Sequence[Segment]) -> tuple[str, ...]:
    if results is None:
        return (NOT_CHECKED,)
    labels = {segment.number: segment.label for segment in segments}
    failed = [result for result in results if not result.passed]
    told = (f"FAILED: {labels.get(r.segment_number, r.key)}: {r.check.value}: {r.detail}" for r in failed)
    return tuple(told) or (_PASSED if results else "No check applies to what was found.",)
