"""Reports of body part regression are coded, with a group per landmark or slice, and never without a finding."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from orthanc_plugin.catalog.anatomy import is_snomed_concept
from orthanc_plugin.codes import BOTTOM, TOP, Code
from orthanc_plugin.domain.body import BodyLandmark, BodyLocation, Region
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.sr.body_codes import LEVELS, REGIONS
from orthanc_plugin.results.sr.body_scan import COVERAGE
from orthanc_plugin.results.sr.viewer_landmarks import TOOL, corner
from tests.support.cases.body_results_case import ENCODERS, UIDS, body_report, items, values, whole_body
from tests.support.cases.bpr_case import TABLE
from tests.support.cases.results_case import CARD, small_series

SERIES = small_series(slices=20)
LOCATION = replace(whole_body(SERIES), landmarks=whole_body(SERIES).landmarks[:6])
NOT_IN_PYDICOM = {TOP, BOTTOM}
NOWHERE = replace(LOCATION, landmarks=(), regions={}, coverage={}, tag="NONE", reason="too few slices")


@pytest.fixture(scope="module")
def landmarks() -> Dataset:
    return body_report(Output.BODY_LANDMARKS, SERIES, LOCATION, "a note")


@pytest.fixture(scope="module")
def regions() -> Dataset:
    return body_report(Output.BODY_REGIONS, SERIES, LOCATION)


@pytest.fixture(scope="module")
def points() -> Dataset:
    return body_report(Output.VIEWER_LANDMARKS, SERIES, LOCATION)


def groups(report: Dataset) -> list[Dataset]:
    return values(report, "125007")


def words(group: Dataset) -> str:
    return str(values(group, "112039")[0].TextValue)


def targets(group: Dataset) -> list[str]:
    return [item.ConceptCodeSequence[0].CodeValue for item in values(group, "123014")]


def images(group: Dataset) -> list[str]:
    found = (item for item in items(group) if item.ValueType == "IMAGE")
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in found]


def number(item: Dataset) -> tuple[float, str]:
    """Return all digits of a value, and its unit."""
    measured = item.MeasuredValueSequence[0]
    value = measured.get("FloatingPointValue", measured.NumericValue)
    return float(value), measured.MeasurementUnitsCodeSequence[0].CodeValue


def all_codes() -> Iterator[Code]:
    for level in LEVELS.values():
        yield level.structure
        if level.modifier is not None:
            yield level.modifier
    for codes in REGIONS.values():
        yield from codes


def meanings(code: Code) -> set[str]:
    """Return pydicom's names of a code, with and without the semantic tag."""
    schemes: dict[str, dict[str, dict[str, tuple[str, object]]]] = concepts  # type: ignore[assignment]
    found = {names[code.value][0] for names in schemes[code.scheme].values() if code.value in names}
    return found | {name.removesuffix(" structure") for name in found}


def test_the_table_has_every_published_landmark_and_region() -> None:
    assert LEVELS.keys() == TABLE.keys()
    assert REGIONS.keys() == set(Region)


def test_every_code_is_what_pydicom_says_and_has_its_check_digit() -> None:
    unknown = set()
    for code in all_codes():
        if code.scheme == "SCT":
            assert is_snomed_concept(code.value), code
        known = meanings(code)
        assert not known or code.meaning in known, code
        if not known:
            unknown.add(code)
    assert unknown == NOT_IN_PYDICOM


def test_no_two_landmarks_share_their_codes() -> None:
    assert len(set(LEVELS.values())) == len(LEVELS)


def test_a_landmark_has_its_region_modifier_slice_and_words(landmarks: Dataset) -> None:
    found = LOCATION.landmarks[0]
    group = groups(landmarks)[1]
    assert targets(group) == ["816092008"]
    assert values(group, "106233006")[0].ConceptCodeSequence[0].CodeValue == BOTTOM.value
    assert images(group) == [SERIES.headers[found.slice_index].SOPInstanceUID]
    assert words(group) == "pelvis_start (Pelvis, bottom), instance 2, z -294.8 mm, sd 16.8 mm"


def test_the_position_of_a_level_has_its_deviation(landmarks: Dataset) -> None:
    group = groups(landmarks)[-1]
    (position,) = values(group, "BPR_LEVEL")
    assert number(position) == (LOCATION.landmarks[-1].z_mm, "mm")
    (deviation,) = values(position, "386136009")
    assert number(deviation) == (LOCATION.landmarks[-1].sd_mm, "mm")


def test_the_scan_has_spacing_slope_direction_and_coverage(landmarks: Dataset, regions: Dataset) -> None:
    for report in (landmarks, regions):
        scan = groups(report)[0]
        assert values(scan, "121071")[0].ConceptCodeSequence[0].CodeValue == "BPR_SCAN"
        said = {code: values(scan, code)[0].ConceptCodeSequence[0].CodeValue for code in ("BPR_VALID", "BPR_REVERSED")}
        assert said == {"BPR_VALID": "373066001", "BPR_REVERSED": "373067005"}
        assert number(values(scan, "BPR_SLOPE")[0]) == (0.12, "/mm")
        assert number(values(scan, "BPR_RATIO")[0]) == (LOCATION.slope_ratio, "{unitless}")
        assert number(values(scan, "BPR_SPACING")[0]) == (LOCATION.expected_spacing_mm, "mm")
        parts = {region: values(scan, code.value)[0] for region, code in COVERAGE.items()}
        assert number(parts[Region.LEGS]) == (1 / 3, "{unitless}")
        assert parts[Region.LEGS].ConceptNameCodeSequence[0].CodeMeaning == "Fraction of the legs within the scan"
        site = values(parts[Region.LEGS], "363698007")[0].ConceptCodeSequence[0]
        assert site.CodeValue == "61685007"
        assert words(scan).startswith(f"scan of {LOCATION.tag}; covers legs 0.33")


def test_what_is_not_known_of_the_scan_is_not_said() -> None:
    unknown = replace(LOCATION, slope_per_mm=None, slope_ratio=None, expected_spacing_mm=None, coverage={})
    scan = groups(body_report(Output.BODY_LANDMARKS, SERIES, unknown))[0]
    assert [item for item in items(scan) if item.ValueType == "NUM"] == []
    assert words(scan).endswith("covers no known region")


def test_every_slice_has_a_group_with_its_regions(regions: Dataset) -> None:
    slices = groups(regions)[1 + len(LOCATION.regions) :]
    for group, header, index in zip(slices, SERIES.headers, range(20), strict=True):
        shown = [region for region, indices in LOCATION.regions.items() if index in indices]
        assert targets(group) == [code.value for region in shown for code in REGIONS[region]]
        assert images(group) == [header.SOPInstanceUID]
        assert words(group) == f"{', '.join(shown)}, instance {index + 1}, z {-300 + 5 * index:.1f} mm"


def test_shoulder_and_neck_are_two_evaluations(regions: Dataset) -> None:
    chest_and_neck = groups(regions)[1 + len(LOCATION.regions) + 13]
    assert targets(chest_and_neck) == ["816094009", "45048000", "16982005"]


def test_a_range_names_the_first_and_the_last_slice_of_its_region(regions: Dataset) -> None:
    ranges = groups(regions)[1 : 1 + len(LOCATION.regions)]
    chest = ranges[list(LOCATION.regions).index(Region.CHEST)]
    assert values(chest, "121071")[0].ConceptCodeSequence[0].CodeValue == "BPR_RANGE"
    assert images(chest) == [SERIES.headers[8].SOPInstanceUID, SERIES.headers[13].SOPInstanceUID]
    assert words(chest) == "chest, instances 9 to 14, z -260.0 to -235.0 mm, 6 slices"


def test_a_slice_of_no_region_has_no_group() -> None:
    only = replace(LOCATION, regions={Region.CHEST: (3, 4, 6)})
    found = groups(body_report(Output.BODY_REGIONS, SERIES, only))
    assert [images(group) for group in found[2:]] == [[SERIES.headers[index].SOPInstanceUID] for index in (3, 4, 6)]
    assert words(found[1]).endswith("3 slices")


def test_every_group_has_a_tracking_uid_of_its_own(landmarks: Dataset, regions: Dataset, points: Dataset) -> None:
    uids = [values(group, "112040")[0].UID for report in (landmarks, regions, points) for group in groups(report)]
    assert len(uids) == len(set(uids)) == 7 + 27 + 6


def test_every_group_names_its_model(landmarks: Dataset, regions: Dataset, points: Dataset) -> None:
    for report in (landmarks, regions, points):
        assert f"model_sha256={CARD.digest}" in [item.TextValue for item in values(report, "111002")]
        for group in groups(report):
            assert values(group, "111001")[0].TextValue == CARD.name


def test_containers_are_separate(landmarks: Dataset, regions: Dataset, points: Dataset) -> None:
    for report in (landmarks, regions, points):
        assert {item.ContinuityOfContent for item in items(report) if item.ValueType == "CONTAINER"} == {"SEPARATE"}


def test_the_source_is_the_only_evidence(regions: Dataset) -> None:
    (series,) = regions.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    cited = [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
    assert cited == [header.SOPInstanceUID for header in SERIES.headers]


def test_points_are_labelled_as_levels_of_slices_under_the_title_that_viewers_open(points: Dataset) -> None:
    assert points.ConceptNameCodeSequence[0].CodeValue == "126000"
    found = LOCATION.landmarks[3]
    group = groups(points)[3]
    assert words(group) == TOOL
    assert values(group, "121106")[0].TextValue == f"slice level {found.key}"
    assert images(group) == [SERIES.headers[found.slice_index].SOPInstanceUID]
    (point,) = (item for item in items(group) if item.ValueType == "SCOORD")
    assert (point.GraphicType, list(point.GraphicData)) == ("POINT", [0.5, 0.5])
    assert [item for item in items(group) if item.ValueType == "NUM"] == []
    said = [item.TextValue for item in values(points, "121106")]
    assert (
        "Each point marks the slice of a level, not an anatomical position: it lies in a corner of the image." in said
    )


def test_a_point_lies_in_a_corner_of_air() -> None:
    image = np.full((64, 48), 40, np.float32)
    image[60:, 45:] = -1000
    assert corner(image) == (47.5, 63.5)
    image[:4, :3] = -1020
    assert corner(image) == (0.5, 0.5)


def test_without_air_a_point_lies_in_the_emptiest_corner() -> None:
    image = np.full((64, 48), 40, np.float32)
    image[:4, 45:] = -300
    assert corner(image) == (47.5, 0.5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_without_a_finding_there_is_no_report(kind: Output) -> None:
    with pytest.raises(EncodingError, match="without a measurement group"):
        body_report(kind, SERIES, NOWHERE)


@pytest.mark.parametrize("kind", [Output.BODY_LANDMARKS, Output.VIEWER_LANDMARKS])
def test_a_landmark_without_a_code_is_left_out_and_named(kind: Output) -> None:
    odd = BodyLandmark("tail", 3, -285.0, 5.0)
    report = body_report(kind, SERIES, with_landmarks(odd, LOCATION.landmarks[5]))
    assert "Not reported, because there is no standard code: tail" in [
        item.TextValue for item in values(report, "121106")
    ]
    assert targets_or_findings(report) == [LEVELS[LOCATION.landmarks[5].key].structure.value]
    with pytest.raises(EncodingError):
        body_report(kind, SERIES, with_landmarks(odd))


def with_landmarks(*landmarks: BodyLandmark) -> BodyLocation:
    return replace(LOCATION, landmarks=landmarks)


def targets_or_findings(report: Dataset) -> list[str]:
    found = (item for group in groups(report) for code in ("123014", "121071") for item in values(group, code))
    return [code.CodeValue for item in found if (code := item.ConceptCodeSequence[0]).CodingSchemeDesignator == "SCT"]


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoding_twice_gives_equal_bytes_that_read_as_they_were(kind: Output) -> None:
    first, second = (body_report(kind, SERIES, LOCATION) for _ in range(2))
    buffers = [io.BytesIO(), io.BytesIO()]
    for report, buffer in zip((first, second), buffers, strict=True):
        report.save_as(buffer, enforce_file_format=True)
    assert buffers[0].getvalue() == buffers[1].getvalue()
    read = pydicom.dcmread(io.BytesIO(buffers[0].getvalue()))
    assert (read.SOPInstanceUID, read.ContentSequence) == (UIDS[kind], first.ContentSequence)


def test_slices_of_the_same_regions_share_their_items(regions: Dataset) -> None:
    """Shared items keep hundreds of groups fast."""
    third, fourth = groups(regions)[1 + len(LOCATION.regions) + 2 :][:2]
    assert targets(third) == targets(fourth)
    shared = [one is other for one, other in zip(third.ContentSequence, fourth.ContentSequence, strict=True)]
    assert shared == [False, False, *[True] * (len(shared) - 3), False]
