"""The report of quality checks has a group per segment with coded answers, numbers and words, tied to the segments."""

from __future__ import annotations

import io
from dataclasses import replace

import pydicom
import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.domain.checks import Check
from orthanc_plugin.errors import EncodingError
from orthanc_plugin.results.provenance import statements_of
from orthanc_plugin.results.sr.checks import CONCEPTS, encode_checks_sr
from tests.support.cases.body_results_case import values
from tests.support.cases.checks_case import CHECKS_UID, OTHER, checks_report, results_of, stored
from tests.support.cases.results_case import CARD, REPORT_TITLE, provenance_of, small_series

SERIES = small_series()
YES, NO = "373066001", "373067005"


@pytest.fixture(scope="module")
def one() -> Dataset:
    return checks_report(SERIES, [stored(SERIES)], None, "a note")


@pytest.fixture(scope="module")
def two() -> Dataset:
    return checks_report(SERIES, [stored(SERIES), stored(SERIES, OTHER)])


def groups(report: Dataset) -> dict[str, Dataset]:
    return {values(group, "112039")[0].TextValue: group for group in values(report, "125007")}


def answers(group: Dataset, check: Check) -> list[str]:
    return [item.ConceptCodeSequence[0].CodeValue for item in values(group, CONCEPTS[check][0].value)]


def test_each_checked_segment_has_a_group_that_carries_its_tracking_uid(one: Dataset) -> None:
    segments = {item.SegmentLabel: item for item in stored(SERIES).seg.SegmentSequence}
    found = groups(one)
    checked = ("Left lung", "Right lung", "Trachea and main bronchi", "Bone")
    assert set(found) == {f"{CARD.name}: {label}" for label in checked}
    for label, item in segments.items():
        if group := found.get(f"{CARD.name}: {label}"):
            assert item.TrackingUID == values(group, "112040")[0].UID
            assert values(group, "121071")[0].ConceptCodeSequence[0] == item.SegmentedPropertyTypeCodeSequence[0]
    assert values(found[f"{CARD.name}: Left lung"], "272741003")[0].ConceptCodeSequence[0].CodeValue == "7771000"
    assert values(one, "121191") == []  # no referenced segment: a LABELMAP would not validate


def test_each_check_is_a_coded_answer_a_number_and_a_sentence(one: Dataset) -> None:
    left = groups(one)[f"{CARD.name}: Left lung"]
    said = [item.TextValue for item in values(left, "121106")]
    asked = (Check.COMPLETE, Check.ONE_PIECE, Check.SIDE, Check.VOLUME, Check.INSIDE_BODY)
    for check in (*asked, Check.PARTNER, Check.GAS, Check.IN_IMAGE, Check.CLOSED):
        assert answers(left, check) == [NO if check is Check.VOLUME else YES]
        assert len(values(left, CONCEPTS[check][1].value)) == 1
        assert sum(text.startswith(f"{check.value} ") for text in said) == 1
    assert "volume FAILED: 184.3 mL, expected 521.3 to 5182 mL (Cressoni 2013; Yamada 2020)" in said
    volume = values(left, "YEKZ")[0].MeasuredValueSequence[0]
    assert (volume.FloatingPointValue, volume.MeasurementUnitsCodeSequence[0].CodeValue) == (
        pytest.approx(184.32),
        "mL",
    )


def test_the_first_comments_say_how_many_failed_and_which(one: Dataset) -> None:
    said = [item.TextValue for item in values(one, "121106") if item in one.ContentSequence]
    assert said[0].startswith("Research use only, not for diagnosis")
    assert said[len(statements_of(CARD)) :] == [
        "a note",
        "19 of 22 checks passed. Passing every check does not mean that a mask is correct.",
        f"FAILED in {CARD.name}: Left lung: volume; Right lung: volume; Trachea and main bronchi: complete",
    ]


def test_groups_name_the_checks_and_the_model_they_checked(one: Dataset) -> None:
    group = groups(one)[f"{CARD.name}: Left lung"]
    assert values(group, "111001")[0].TextValue == "orthanc-enrichment quality checks"
    assert [item.TextValue for item in values(group, "111002")] == [f"model={CARD.name} {CARD.version}"]
    shared = [item.TextValue for item in one.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "111002"]
    assert shared[:2] == [f"model={CARD.name} {CARD.version}", f"model_sha256={CARD.digest}"]
    equipment = [item.ManufacturerModelName for item in one.ContributingEquipmentSequence]
    assert equipment[1:3] == [CARD.name, "orthanc-enrichment quality checks"]


def test_two_models_are_one_report_and_agree(two: Dataset) -> None:
    found = groups(two)
    assert {name.partition(":")[0] for name in found} == {CARD.name, OTHER.name}
    assert len(found) == 2 * 4  # bone is only compared
    lung = found[f"{OTHER.name}: Left lung"]
    assert answers(lung, Check.AGREEMENT) == [YES]
    assert f"agreement passed: Dice 1.00 with Left lung of {CARD.name}" in [
        item.TextValue for item in values(lung, "121106")
    ]
    assert stored(SERIES, OTHER).seg.SegmentSequence[0].TrackingUID == values(lung, "112040")[0].UID
    equipment = [item.ManufacturerModelName for item in two.ContributingEquipmentSequence]
    assert equipment[1:4] == [CARD.name, OTHER.name, "orthanc-enrichment quality checks"]
    evidence = {
        item.ReferencedSOPInstanceUID
        for sequence in (
            two.get("PertinentOtherEvidenceSequence", ()),
            two.get("CurrentRequestedProcedureEvidenceSequence", ()),
        )
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert {"2.25.1001", "2.25.1005"} <= evidence


def test_a_test_model_among_others_marks_the_whole_report() -> None:
    standin = replace(OTHER, test_model=True, limits=("Phantoms only.",))
    models = [stored(SERIES), stored(SERIES, standin)]
    report = checks_report(SERIES, models)
    assert report.SeriesDescription == "Checks other_ellipsoids 2.0.0, test model, not for patients"
    said = [item.TextValue for item in values(report, "121106")]
    assert said[0].startswith("TEST MODEL, NOT FOR PATIENTS")
    assert {*statements_of(standin), *statements_of(CARD)} <= {*said}


def test_a_model_without_a_stored_seg_is_reported_all_the_same() -> None:
    held_back, other = stored(SERIES), stored(SERIES, OTHER)
    report = encode_checks_sr(
        [provenance_of(SERIES, CHECKS_UID, card) for card in (CARD, OTHER)], [other.seg],
        results_of(SERIES, [held_back, other]), title=REPORT_TITLE,
    )  # fmt: skip
    own = values(groups(report)[f"{CARD.name}: Left lung"], "112040")[0].UID
    assert own not in {item.TrackingUID for item in held_back.seg.SegmentSequence}
    assert len({values(group, "112040")[0].UID for group in groups(report).values()}) == 8


def test_the_report_is_as_all_others(one: Dataset) -> None:
    assert (int(one.SeriesNumber), one.SeriesDescription) == (90000500, f"Checks {CARD.name} {CARD.version}, research")
    assert (one.VerificationFlag, one.ConceptNameCodeSequence[0].CodeValue) == ("UNVERIFIED", "AIENRICH")
    assert {item.ContinuityOfContent for item in [one, *values(one, "125007")]} == {"SEPARATE"}


def test_a_rerun_gives_the_same_bytes_and_they_read_back(one: Dataset) -> None:
    def stored_bytes(report: Dataset) -> bytes:
        buffer = io.BytesIO()
        report.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    data = stored_bytes(one)
    assert data == stored_bytes(checks_report(SERIES, [stored(SERIES)], None, "a note"))
    assert pydicom.dcmread(io.BytesIO(data)).ContentSequence == one.ContentSequence


def test_codes_fit_their_attributes_and_differ() -> None:
    assert set(CONCEPTS) == set(Check)
    told = [code for pair in CONCEPTS.values() for code in pair]
    assert len({code.value for code in told}) == len(told)
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in told)


def test_what_does_not_fit_is_refused() -> None:
    model = stored(SERIES)
    results = results_of(SERIES, [model])
    with pytest.raises(EncodingError, match="without a result"):
        checks_report(SERIES, [model], [])
    with pytest.raises(EncodingError, match="stranger have no model card"):
        checks_report(SERIES, [model], [replace(results[0], model="stranger")])
    with pytest.raises(EncodingError, match=r"segment 2 of SEG 2.25.1001 is not Left lung"):
        checks_report(SERIES, [model], [replace(results[0], segment_number=2)])
    with pytest.raises(EncodingError, match="no structure spleen"):
        checks_report(SERIES, [model], [replace(results[0], key="spleen")])
