"""Reports are coded, tied to SEG and source, unverified, and have the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pydicom
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin import __version__, identity
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.radiomics.parameters import parameter_texts
from orthanc_plugin.results import seg
from orthanc_plugin.results.provenance import checks_equipment, radiomics_equipment, statements_of
from tests.support.cases.results_case import (
    CARD,
    CREATED,
    RADIOMICS_UID,
    SEG_UID,
    ellipsoids,
    encode,
    features_of,
    landmarks_report,
    provenance_of,
    radiomics_report,
    report_on,
    small_series,
)

SERIES = small_series()


@pytest.fixture(scope="module")
def stored() -> Dataset:
    return encode(SERIES, ellipsoids(SERIES))


@pytest.fixture(scope="module")
def radiomics(stored: Dataset) -> Dataset:
    return radiomics_report(SERIES, stored)


@pytest.fixture(scope="module")
def landmarks(stored: Dataset) -> Dataset:
    return landmarks_report(SERIES, stored, "one lung only")


def items(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for child in ds.get("ContentSequence", ()):
        yield from items(child)


def values(ds: Dataset, code: str) -> list[Dataset]:
    return [item for item in items(ds) if item.ConceptNameCodeSequence[0].CodeValue == code]


def test_reports_are_unverified_preliminary_research_by_a_device(radiomics: Dataset, landmarks: Dataset) -> None:
    for report in (radiomics, landmarks):
        assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        assert report.SeriesDescription.endswith(f"{CARD.name} {CARD.version}, research")
        assert values(report, "121106")[0].TextValue.startswith("Research use only, not for diagnosis")
        assert [item.ConceptCodeSequence[0].CodeValue for item in values(report, "121005")] == ["121007"]
        assert values(report, "121008") == []


def test_several_segs_are_evidence_of_one_report(stored: Dataset) -> None:
    other = encode(SERIES, ellipsoids(SERIES), sop_instance_uid="2.25.1099")
    report = report_on([stored, other])
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    cited = {item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence}
    assert cited == {SEG_UID, "2.25.1099", *SERIES.identity.sop_instance_uids}


def test_every_algorithm_is_contributing_equipment_of_its_own(stored: Dataset) -> None:
    added = [radiomics_equipment("bin width 25", CREATED), checks_equipment(CREATED)]
    report = report_on([stored], provider="CUDA", algorithms=added)
    model, radiomics, checks = (item for item in report.ContributingEquipmentSequence if "DeviceUID" in item)
    assert (model.Manufacturer, model.ManufacturerModelName, model.SoftwareVersions) == (
        CARD.manufacturer, CARD.name, CARD.version,
    )  # fmt: skip
    for fact in (f"model_sha256={CARD.digest}", "provider=CUDA", f"software=orthanc-enrichment {__version__}"):
        assert fact in model.ContributionDescription
    assert list(radiomics.SoftwareVersions) == [f"orthanc-enrichment {__version__}", "pyradiomics 3.0.1"]
    assert radiomics.ContributionDescription == "Radiomics: bin width 25"
    assert checks.ManufacturerModelName == "orthanc-enrichment quality checks"
    assert len({item.DeviceUID for item in (model, radiomics, checks)}) == 3
    purposes = {item.PurposeOfReferenceCodeSequence[0].CodeValue for item in (model, radiomics, checks)}
    assert purposes == {"109102"}


def test_new_weights_are_a_new_device() -> None:
    retrained = replace(CARD, digest="cd" * 32)
    model = provenance_of(SERIES, SEG_UID)
    assert model.equipment().DeviceUID == replace(model, provider="CUDA").equipment().DeviceUID
    assert model.equipment().DeviceUID != replace(model, card=retrained).equipment().DeviceUID


def test_parameters_too_long_for_their_attribute_are_cut() -> None:
    assert len(radiomics_equipment("x" * 2000, CREATED).ContributionDescription) == 1024


def test_every_container_is_separate_under_our_own_title(radiomics: Dataset, landmarks: Dataset) -> None:
    for report in (radiomics, landmarks):
        containers = [item for item in items(report) if item.ValueType == "CONTAINER"]
        assert {item.ContinuityOfContent for item in containers} == {"SEPARATE"}
        title = report.ConceptNameCodeSequence[0]
        assert (title.CodeValue, title.CodingSchemeDesignator) == ("AIENRICH", "99AIE")


def test_each_segment_has_a_group_with_its_side_values_and_units(radiomics: Dataset, stored: Dataset) -> None:
    groups = values(radiomics, "125007")
    assert len(groups) == len(stored.SegmentSequence)
    left = groups[0]
    assert stored.SegmentSequence[0].TrackingUID == values(left, "112040")[0].UID
    assert values(left, "272741003")[0].ConceptCodeSequence[0].CodeValue == "7771000"
    volume = values(left, "YEKZ")[0].MeasuredValueSequence[0]
    assert (volume.FloatingPointValue, str(volume.NumericValue)) == (1500001 + 1 / 3, "1500000")
    assert volume.MeasurementUnitsCodeSequence[0].CodeValue == "mm3"
    reference = values(left, "121191")[0].ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (SEG_UID, 1)
    assert SERIES.identity.series_instance_uid == values(left, "121232")[0].UID


def test_the_model_its_digest_and_the_settings_are_stated_once(radiomics: Dataset) -> None:
    texts = [item.TextValue for item in values(radiomics, "111002")]
    assert texts[:2] == [f"model={CARD.name} {CARD.version}", f"model_sha256={CARD.digest}"]
    assert set(parameter_texts(RadiomicsSettings())) <= set(texts)
    assert len(texts) == len(set(texts))
    for group in values(radiomics, "125007"):
        assert [values(group, code)[0].TextValue for code in ("111001", "111003")] == [CARD.name, CARD.version]
        assert values(group, "111002") == []


def test_landmarks_name_their_slice_in_words_and_by_reference(landmarks: Dataset) -> None:
    bottom, top = values(landmarks, "125007")
    assert values(bottom, "112039")[0].TextValue == "lung bottom, instance 3, z -290.0 mm"
    assert values(top, "112039")[0].TextValue == "lung top, instance 10, z -255.0 mm"
    assert values(top, "106233006")[0].ConceptCodeSequence[0].CodeValue == "421812003"
    image = next(item for item in items(bottom) if item.ValueType == "IMAGE")
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SERIES.headers[2].SOPInstanceUID


def test_notes_stand_in_the_reports(landmarks: Dataset, stored: Dataset) -> None:
    said = len(statements_of(CARD))
    assert [item.TextValue for item in values(landmarks, "121106")][said:] == ["one lung only"]
    measured = [replace(features_of(ellipsoids(SERIES))[4], notes=("odd",)), SegmentFeatures(4, (), ("one voxel",))]
    report = radiomics_report(replace(SERIES, notes=("one frame of reference",)), stored, measured)
    notes = [item.TextValue for item in values(report, "121106")][said:]
    assert notes == ["one frame of reference", "Body outside the other segments: odd", "Bone: one voxel"]
    assert len(values(report, "125007")) == 1


def test_reports_cite_seg_and_every_source_in_uid_attributes_only(radiomics: Dataset, stored: Dataset) -> None:
    series = radiomics.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    cited = {item.ReferencedSOPInstanceUID for one in series for item in one.ReferencedSOPSequence}
    assert cited == {SEG_UID, *SERIES.identity.sop_instance_uids}
    texts = [str(element.value) for element in radiomics.iterall() if element.VR not in {"UI", "SQ"}]
    assert not [text for text in texts if SERIES.identity.series_instance_uid in text or SEG_UID in text]


def test_encoding_twice_gives_equal_bytes(stored: Dataset) -> None:
    def written(ds: Dataset) -> bytes:
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    for report in (radiomics_report, landmarks_report):
        assert written(report(SERIES, stored)) == written(report(SERIES, stored))


def test_what_is_built_equals_what_is_read_back(radiomics: Dataset, landmarks: Dataset, stored: Dataset) -> None:
    for built in (radiomics, landmarks, stored):
        buffer = io.BytesIO()
        built.save_as(buffer, enforce_file_format=True)
        read = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
        for keyword in ("PixelData", "ContentSequence", "ContentDate", "ContentTime", "InstanceCreationTime"):
            assert read.get(keyword) == built.get(keyword)


def test_seg_and_reports_are_series_of_their_own(radiomics: Dataset, landmarks: Dataset, stored: Dataset) -> None:
    assert radiomics.SeriesInstanceUID == identity.series_uid(RADIOMICS_UID)
    assert len({ds.SeriesInstanceUID for ds in (radiomics, landmarks, stored)}) == 3
    assert [int(ds.SeriesNumber) for ds in (stored, radiomics, landmarks)] == [90000100, 90000200, 90000300]


def test_a_report_of_nothing_or_of_no_number_is_refused(stored: Dataset) -> None:
    with pytest.raises(EncodingError, match="without a measurement group"):
        radiomics_report(SERIES, stored, [])
    measured = features_of(seg.decode_seg(stored, SERIES, CARD))[0]
    broken = replace(measured, features=(replace(measured.features[0], value=float("nan")),))
    with pytest.raises(EncodingError, match="finite"):
        radiomics_report(SERIES, stored, [broken])
