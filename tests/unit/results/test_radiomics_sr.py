"""The radiomics report has a group for each segment and image, with every parameter, statistic and number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.measures import Conditions, Missing, SegmentFeatures
from orthanc_plugin.domain.plan import SegEncoding
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.radiomics.feature_codes import FEATURES, CodedFeature
from orthanc_plugin.radiomics.parameters import describe, parameter_texts
from orthanc_plugin.results import seg
from orthanc_plugin.results.provenance import statements_of
from orthanc_plugin.results.sr.content import measurement, number, shown
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.radiomics_case import FILTERED, SERIES, SETTINGS, measured, report, stored_as
from tests.support.cases.results_case import (
    AIRWAY,
    BODY,
    BONE,
    CARD,
    LUNG_RIGHT,
    RADIOMICS_UID,
    SEG_UID,
    provenance_of,
)


@pytest.fixture(scope="module")
def stored() -> Dataset:
    return stored_as(SegEncoding.BINARY)


def items(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for child in ds.get("ContentSequence", ()):
        yield from items(child)


def values(ds: Dataset, code: str) -> list[Dataset]:
    return [item for item in items(ds) if item.ConceptNameCodeSequence[0].CodeValue == code]


def groups_of(ds: Dataset) -> list[Dataset]:
    return values(ds, "125007")


def test_a_filtered_image_has_groups_of_its_own_that_name_it(stored: Dataset) -> None:
    ds = report(stored, [measured(1), measured(2), measured(1, FILTERED), measured(2, FILTERED)])
    names = [values(group, "112039")[0].TextValue for group in groups_of(ds)]
    assert names == ["Left lung", "Right lung", f"Left lung, {FILTERED}", f"Right lung, {FILTERED}"]
    uids = [str(values(group, "112040")[0].UID) for group in groups_of(ds)]
    assert uids == [
        stored.SegmentSequence[0].TrackingUID,
        stored.SegmentSequence[1].TrackingUID,
        identity.tracking_uid(SEG_UID, f"1:{FILTERED}"),
        identity.tracking_uid(SEG_UID, f"2:{FILTERED}"),
    ]
    assert len(set(uids)) == 4
    references = [values(group, "121191")[0].ReferencedSOPSequence[0] for group in groups_of(ds)]
    assert [reference.ReferencedSegmentNumber for reference in references] == [1, 2, 1, 2]


def test_parameters_are_stated_once_and_hold_every_setting(stored: Dataset) -> None:
    ds = report(stored, [measured(1), measured(1, FILTERED)])
    original, filtered = groups_of(ds)
    texts = [item.TextValue for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert texts[1] == f"model_sha256={CARD.digest}"
    assert texts[-len(parameter_texts(SETTINGS)) :] == [*parameter_texts(SETTINGS)]
    assert values(original, "111002") == []
    assert [item.TextValue for item in values(filtered, "111002")] == [
        f"image={FILTERED}",
        "filter=LoG, sigma 2 mm, IBSI kernel per voxel, cut off at 4 sigma, mirrored",
    ]


def conditions(classes: str, discretisation: str, voxels: int = 5) -> Conditions:
    return Conditions(classes, discretisation, (2.0, 0.5, 0.5), voxels)


def test_a_group_states_what_was_done_for_it_where_it_differs_from_what_the_report_states(stored: Dataset) -> None:
    as_asked = conditions("shape firstorder glcm glrlm glszm ngtdm gldm", "width 25 HU from -1000 HU", 7)
    other = conditions("firstorder", "width 25 from -150, a multiple of it")
    ds = report(stored, [replace(measured(1), conditions=as_asked), replace(measured(1, FILTERED), conditions=other)])
    original, filtered = groups_of(ds)
    texts = [item.TextValue for item in ds.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert texts[-1] == "spacing=2 0.5 0.5 mm (z y x)"
    assert [item.TextValue for item in values(original, "111002")] == ["voxels=7"]
    assert [item.TextValue for item in values(filtered, "111002")][2:] == [
        "classes=firstorder",
        "discretisation=width 25 from -150, a multiple of it",
        "voxels=5",
    ]


def test_a_further_aggregation_of_textures_has_a_group_of_its_own_that_says_how_they_were_made(stored: Dataset) -> None:
    flat = "2.5D, merged"
    done = replace(conditions("glcm", "width 25 HU from -1000 HU"), textures=f"{flat}; distance 1; alpha 0")
    further = replace(measured(1), conditions=done, aggregation=flat)
    filtered = replace(measured(1, FILTERED), conditions=done, aggregation=flat)
    ds = report(stored, [measured(1), further, filtered])
    names = [values(group, "112039")[0].TextValue for group in groups_of(ds)]
    assert names == ["Left lung", f"Left lung, {flat}", f"Left lung, {FILTERED}, {flat}"]
    assert len({str(values(group, "112040")[0].UID) for group in groups_of(ds)}) == 3
    rows = read_radiomics_sr(ds)
    assert {row.label for row in rows} == {"Left lung"}
    assert {(row.image, row.textures[:12]) for row in rows} == {
        ("original", "3D, averaged"),
        ("original", flat),
        (FILTERED, flat),
    }


def test_features_without_a_value_are_named_in_their_group_with_the_reason(stored: Dataset) -> None:
    missing = (Missing(("glcm_MCC", "glcm_Imc2"), "undefined: for a reason"), Missing(("ngtdm_Busyness",), "too flat"))
    nothing = SegmentFeatures(2, (), missing=(Missing(("shape_MeshVolume",), "one voxel"),))
    ds = report(stored, [replace(measured(1), missing=missing), nothing])
    first, second = groups_of(ds)
    assert [item.TextValue for item in values(first, "NOT_MEASURED")] == [
        "glcm_MCC, glcm_Imc2: undefined: for a reason",
        "ngtdm_Busyness: too flat",
    ]
    rows = [row for row in read_radiomics_sr(ds) if row.reason]
    assert [(row.segment_number, row.feature, row.code, row.value, row.reason) for row in rows] == [
        (1, "glcm_MCC", "MCC", None, "undefined: for a reason"),
        (1, "glcm_Imc2", "JN9H", None, "undefined: for a reason"),
        (1, "ngtdm_Busyness", "NQ30", None, "too flat"),
        (2, "shape_MeshVolume", "RNU0", None, "one voxel"),
    ]
    assert [item for item in second.ContentSequence if item.ValueType == "NUM"] == []


def test_the_software_that_measured_is_contributing_equipment(stored: Dataset) -> None:
    equipment = report(stored, [measured(1)]).ContributingEquipmentSequence
    descriptions = [item.get("ContributionDescription", "") for item in equipment]
    assert f"Radiomics: {describe(SETTINGS)}" in descriptions
    assert any("provider=CPU" in description for description in descriptions)


def test_statistics_of_hounsfield_units_say_which_they_are(stored: Dataset) -> None:
    (group,) = groups_of(report(stored, [measured(1)]))
    numbers = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    derivations = {
        item.ConceptNameCodeSequence[0].CodeValue: values(item, "121401")[0].ConceptCodeSequence[0].CodeValue
        for item in numbers
        if values(item, "121401")
    }
    expected = {coded.concept.value: coded.derivation.value for coded in FEATURES if coded.derivation is not None}
    assert derivations == expected
    assert derivations["Q4LE"] == "373098007"


@pytest.mark.parametrize("coded", FEATURES, ids=lambda coded: coded.name)
@pytest.mark.parametrize("value", [0.0, -1 / 3, 1.5e300, 12345678901234.5])
def test_numbers_made_fast_are_those_of_highdicom(coded: CodedFeature, value: float) -> None:
    made = number(coded.concept, value, coded.unit, coded.derivation)
    expected = measurement(coded.concept, value, coded.unit)[0]
    derivation = made.pop("ContentSequence", None)
    assert (derivation is not None) == (coded.derivation is not None)
    assert made.to_json_dict() == expected.to_json_dict()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1500001 + 1 / 3, "1500000"), (2171.594630, "2172"), (121.469758, "121.5"), (0.83333333, "0.8333"),
        (1.0, "1"), (-0.0, "0"), (123456.0, "123456"), (0.00012345, "0.0001234"), (1.2345678e-7, "1.235e-07"),
        (9999.96, "10000"), (-1.5e300, "-1.500e+300"), (12345678901234.5, "1.235e+13"),
    ],
)  # fmt: skip
def test_people_read_four_digits(value: float, text: str) -> None:
    coded = FEATURES[0]
    measured = number(coded.concept, value, coded.unit).MeasuredValueSequence[0]
    assert (shown(value), measured.NumericValue, measured.FloatingPointValue) == (text, text, value)
    assert len(text) <= 16


def test_numbers_of_one_concept_do_not_share_their_value() -> None:
    coded = FEATURES[0]
    one, two = (number(coded.concept, value, coded.unit) for value in (1.0, 2.0))
    assert [item.MeasuredValueSequence[0].FloatingPointValue for item in (one, two)] == [1.0, 2.0]
    with pytest.raises(EncodingError, match="not a finite number"):
        number(coded.concept, math.inf, coded.unit)


def test_the_image_library_lists_every_source_slice_before_the_measurements(stored: Dataset) -> None:
    ds = report(stored, [measured(1)], library=True)
    *_, library, measurements = ds.ContentSequence
    assert library.ConceptNameCodeSequence[0].CodeValue == "111028"
    assert measurements.ConceptNameCodeSequence[0].CodeValue == "126010"
    listed = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(library) if item.ValueType == "IMAGE"
    ]
    assert listed == [header.SOPInstanceUID for header in SERIES.headers]
    assert {item.ContinuityOfContent for item in items(ds) if item.ValueType == "CONTAINER"} == {"SEPARATE"}
    assert values(report(stored, [measured(1)]), "111028") == []


def test_the_only_segment_of_a_seg_is_referenced() -> None:
    alone = stored_as(SegEncoding.BINARY, BODY, LUNG_RIGHT, AIRWAY, BONE)
    (group,) = groups_of(report(alone, [measured(1)]))
    reference = values(group, "121191")[0].ReferencedSOPSequence[0]
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSegmentNumber) == (alone.SOPClassUID, 1)


def test_a_segment_of_a_label_map_is_named_by_its_tracking_uid_its_seg_and_its_number() -> None:
    """dciodvfy and dcmtk take a reference to a LABELMAP for an error (decision 0011)."""
    labelmap = stored_as(SegEncoding.LABELMAP)
    ds = report(labelmap, [measured(2)])
    (group,) = groups_of(ds)
    assert [item for item in items(group) if item.ValueType == "IMAGE"] == []
    (segment,) = (item for item in labelmap.SegmentSequence if item.SegmentNumber == 2)
    assert segment.TrackingUID == values(group, "112040")[0].UID
    assert labelmap.SOPInstanceUID == values(group, "SEG_INSTANCE")[0].UID
    assert values(group, "SEG_NUMBER")[0].TextValue == "2"
    assert SERIES.identity.series_instance_uid == values(group, "121232")[0].UID
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert labelmap.SOPInstanceUID in evidence
    assert {(row.seg_sop_instance_uid, row.segment_number) for row in read_radiomics_sr(ds)} == {
        (labelmap.SOPInstanceUID, 2)
    }


def test_notes_name_segment_and_image(stored: Dataset) -> None:
    noted = [replace(measured(1), notes=("odd",)), SegmentFeatures(2, (), ("one voxel",), FILTERED)]
    notes = [item.TextValue for item in values(report(stored, noted), "121106")]
    assert notes[len(statements_of(CARD)) :] == ["Left lung: odd", f"Right lung, {FILTERED}: one voxel"]


def test_a_segment_that_the_seg_does_not_hold_is_an_error(stored: Dataset) -> None:
    other = stored_as(SegEncoding.BINARY, BONE)
    with pytest.raises(EncodingError, match="segment 5 is not in the SEG"):
        encode_radiomics_sr(
            provenance_of(SERIES, RADIOMICS_UID), other, seg.decode_seg(stored, SERIES, CARD), [measured(5)],
            title=REPORT_TITLE, settings=SETTINGS,
        )  # fmt: skip
