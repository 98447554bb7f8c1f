"""The summary of one page and the list of key images: what they say, and that nothing of the patient is in them."""

from __future__ import annotations

import io
from dataclasses import replace

import pypdf
import pytest
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from orthanc_plugin.codes import REPORT_TITLE, Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.results import seg
from orthanc_plugin.results.document.key_objects import encode_key_objects
from orthanc_plugin.results.document.summary import NOT_CHECKED, encode_summary, page_of, pdf_of
from tests.support.cases.results_case import (
    CARD,
    LUNG_LEFT,
    WITH_BODY,
    ellipsoids,
    encode,
    provenance_of,
    segment,
    small_series,
)

UNIT = Code("mL", "UCUM", "milliliter")
FAILED = CheckResult(Check.SIDE, CARD.name, 1, "lung_left", False, 1.0, UNIT, "lies on the wrong side")
PASSED = replace(FAILED, check=Check.VOLUME, passed=True)
OF_ANOTHER = replace(FAILED, model="another", detail="of another model")


def kept_of(series: CtSeries, settings: SegSettings = WITH_BODY) -> tuple[Dataset, Segmentation]:
    stored = encode(series, ellipsoids(series), settings=settings)
    return stored, seg.decode_seg(stored, series, CARD)


def summary(series: CtSeries, checks: list[CheckResult] | None = None) -> Dataset:
    stored, kept = kept_of(series)
    return encode_summary(provenance_of(series, "2.25.1013"), stored, kept, title=REPORT_TITLE, checks=checks)


def text_of(ds: Dataset) -> str:
    (page,) = pypdf.PdfReader(io.BytesIO(pdf_of(ds))).pages
    return " ".join(page.extract_text().split())


def test_the_page_has_volumes_checks_limits_and_provenance() -> None:
    text = text_of(summary(small_series(SeriesNumber=3, ConvolutionKernel="B70f"), [FAILED, PASSED, OF_ANOTHER]))
    for said in (
        "Summary of chest_ellipsoids 1.0.0",
        "Made of CT S3 B70f",
        "Left lung",
        " mL",
        "FAILED: side",
        "FAILED: Left lung: side: lies on the wrong side",
        "Research use only, not for diagnosis. Software result, not verified by a physician.",
        "Intended use: tests",
        f"model_sha256 {CARD.digest}",
        "method Morphological Operations",
    ):
        assert said in text
    assert "of another model" not in text
    assert text.count("Research use only, not for diagnosis. Software result") == 2, "at the head and at the foot"


def test_the_page_says_if_nothing_was_checked_or_all_passed() -> None:
    series = small_series()
    assert NOT_CHECKED in text_of(summary(series))
    assert "Every check that applies passed. That does not mean that a mask is correct." in text_of(
        summary(series, [PASSED])
    )
    assert "No check applies to what was found." in text_of(summary(series, []))


def test_the_checks_of_the_page_are_those_of_its_segments() -> None:
    series = small_series()
    _, kept = kept_of(series)
    results = check_masks(series.volume, kept, CARD)
    rows = {row.label: row.checks for row in page_of(provenance_of(series, "2.25.1"), kept, results).rows}
    for found in kept.segments:
        failed = [r.check.value for r in results if r.segment_number == found.number and not r.passed]
        assert ("FAILED" in rows[found.label]) is bool(failed)
        assert all(check in rows[found.label] for check in failed)


def test_the_summary_of_a_test_model_warns() -> None:
    series, card = small_series(), replace(CARD, test_model=True)
    stored = encode(series, ellipsoids(series), card=card)
    kept = seg.decode_seg(stored, series, card)
    ds = encode_summary(provenance_of(series, "2.25.1013", card), stored, kept, title=REPORT_TITLE)
    assert text_of(ds).count("TEST MODEL, NOT FOR PATIENTS. Research use, not for diagnosis") >= 2
    assert ds.DocumentTitle.endswith("test model, not for patients")


def test_the_document_names_its_sources_and_nothing_of_the_patient() -> None:
    series = small_series()
    ds = summary(series)
    renamed = summary(small_series(PatientName="Other^Name", PatientID="P2", StudyDate="19990101"))
    assert pdf_of(ds) == pdf_of(renamed)
    assert (ds.Modality, ds.BurnedInAnnotation, ds.VerificationFlag) == ("DOC", "NO", "UNVERIFIED")
    assert "RecognizableVisualFeatures" not in ds, "it holds a sagittal plane"
    assert summary(small_series(RecognizableVisualFeatures="NO")).RecognizableVisualFeatures == "NO"
    sources = [item.ReferencedSOPInstanceUID for item in ds.SourceInstanceSequence]
    assert sources == [*series.identity.sop_instance_uids, "2.25.1001"]
    assert len(ds.EncapsulatedDocument) % 2 == 0
    assert ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength].rstrip().endswith(b"%%EOF")


def test_a_rerun_makes_the_same_bytes() -> None:
    assert summary(small_series(), [FAILED]) == summary(small_series(), [FAILED])


def test_a_hundred_structures_with_any_name_and_failure_fit_on_one_page() -> None:
    series = small_series()
    many = tuple(
        replace(segment(LUNG_LEFT), number=n, covers=(n,), label=f"{n} <b> & 肺 " + "long " * 10) for n in range(1, 105)
    )
    labels = ellipsoids(series).labels
    failed = [replace(FAILED, segment_number=n, detail="</para> " * 20) for n in range(1, 105)]
    found = Segmentation(labels, many, tuple(f"note {n} " + "x" * 300 for n in range(30)))
    stored, _ = kept_of(series)
    ds = encode_summary(provenance_of(series, "2.25.1013"), stored, found, title=REPORT_TITLE, checks=failed)
    text = text_of(ds)
    assert "104 <b> &" in text
    assert "note 29" in text
    assert "results_version" in text


def test_the_key_images_are_slices_of_the_source_and_the_segmentation() -> None:
    series = small_series(slices=20)
    stored, kept = kept_of(series)
    ds = encode_key_objects(provenance_of(series, "2.25.1014"), stored, kept)
    images = [item.ReferencedSOPSequence[0] for item in ds.ContentSequence if item.ValueType == "IMAGE"]
    uids = [str(item.ReferencedSOPInstanceUID) for item in images]
    assert len(uids) == 7
    assert set(uids[:-1]) <= set(series.identity.sop_instance_uids)
    assert uids[-1] == stored.SOPInstanceUID
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    listed = {s.SeriesInstanceUID: {i.ReferencedSOPInstanceUID for i in s.ReferencedSOPSequence}
              for s in study.ReferencedSeriesSequence}  # fmt: skip
    assert listed == {series.identity.series_instance_uid: set(uids[:-1]), stored.SeriesInstanceUID: {uids[-1]}}
    title = ds.ConceptNameCodeSequence[0]
    assert any(getattr(codes.cid7010, name) == CodedConcept.from_dataset(title) for name in codes.cid7010.dir())
    assert title.CodeMeaning == "For Research"
    (said,) = (
        item.TextValue for item in ds.ContentSequence if item.ValueType == "TEXT" and "not verified" in item.TextValue
    )
    assert said.startswith("Research use only, not for diagnosis. Generated by software")


def test_key_images_leave_out_a_label_map() -> None:
    """Readers that do not know its class end at such a reference (dcmtk 3.6.7)."""
    series = small_series()
    stored, kept = kept_of(series, SegSettings(SegEncoding.LABELMAP))
    ds = encode_key_objects(provenance_of(series, "2.25.1014"), stored, kept)
    assert str(stored.SOPInstanceUID) not in str(ds)
    assert sum(item.ValueType == "IMAGE" for item in ds.ContentSequence) == 6


@pytest.mark.parametrize("make", [encode_key_objects, lambda *of: encode_summary(*of, title=REPORT_TITLE)])
def test_without_a_structure_there_is_no_document(make: object) -> None:
    series = small_series()
    stored, kept = kept_of(series)
    with pytest.raises(EncodingError):
        make(provenance_of(series, "2.25.1014"), stored, replace(kept, segments=()))  # type: ignore[operator]
