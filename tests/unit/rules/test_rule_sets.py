"""The published selections, on made series at each side of each threshold."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.rule import DEFAULT_RULE, Rule
from orthanc_plugin.config.rule_sets import RULE_SETS, RuleSet
from orthanc_plugin.config.sections import section_json
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.rules.decide import explain
from orthanc_plugin.rules.tags import series_tags
from tests.support.fakes.memory_archive import ct_series

NLST, NSCLC = (Rule.model_validate({"Name": name, "Use": name}) for name in RuleSet)
Change = Callable[[list[Dataset]], object]


def made(slices: int = 101, step_mm: float = 2.5, thickness_mm: float | None = 2.5) -> list[Dataset]:
    """A series that both sets take."""
    series = ct_series(slices)
    for number, ds in enumerate(series):
        ds.ImagePositionPatient, ds.SliceThickness = [0, 0, number * step_mm], thickness_mm
    return series


def failed(rule: Rule, series: list[Dataset]) -> list[str]:
    (verdict,) = explain([rule], series_tags(series, archive="local", today=date(2026, 1, 1)))
    return [failure.criterion for failure in verdict.failures]


def moved(**shifts_mm: float) -> Change:
    """Move slices along the patient: `n50=2.4` moves slice 50 and all that follow."""

    def move(series: list[Dataset]) -> None:
        for name, shift_mm in shifts_mm.items():
            for ds in series[int(name[1:]) :]:
                x, y, z = ds.ImagePositionPatient
                ds.ImagePositionPatient = [x, y, float(z) + shift_mm]

    return move


def on_one(keyword: str, value: object) -> Change:
    return lambda series: setattr(series[50], keyword, value)


@pytest.mark.parametrize("rule", [NLST, NSCLC])
def test_both_take_a_regular_axial_series(rule: Rule) -> None:
    assert failed(rule, made()) == []


@pytest.mark.parametrize(
    ("changes", "criteria"),
    [
        ({"slices": 100}, ["Slices"]),
        ({"slices": 101}, []),
        ({"thickness_mm": 1.49}, ["SliceThickness"]),
        ({"thickness_mm": 1.5}, []),
        ({"thickness_mm": 3.5}, []),
        ({"thickness_mm": 3.51}, ["SliceThickness"]),
        ({"thickness_mm": None}, ["SliceThickness"]),
    ],
)
def test_thickness_and_number_count_for_nlst_only(changes: dict[str, Any], criteria: list[str]) -> None:
    assert failed(NLST, made(**changes)) == criteria
    assert failed(NSCLC, made(**changes)) == []


def test_few_thick_slices_match_nsclc() -> None:
    assert failed(NSCLC, made(slices=5, step_mm=8, thickness_mm=8)) == []


@pytest.mark.parametrize("rule", [NLST, NSCLC])
@pytest.mark.parametrize(
    ("change", "criteria"),
    [
        (moved(n50=2.49), []),
        (moved(n50=2.5), ["StepRatioBelow"]),
        (lambda series: series.pop(50), ["StepRatioBelow"]),
        (on_one("ImagePositionPatient", [0, 0, 49 * 2.5]), ["ImagesPerPosition", "StepRatioBelow"]),
        (on_one("ImagePositionPatient", [0, 0, 50 * 2.5 + 0.8]), []),
        (on_one("ImagePositionPatient", [0, 0, 50 * 2.5 + 0.9]), ["StepRatioBelow"]),
        (on_one("ImageOrientationPatient", [1, 0, 0, 0, 0.999, 0.0447]), ["Orientations"]),
        (on_one("PixelSpacing", [1, 1.01]), ["PixelSpacings"]),
        (on_one("PixelSpacing", None), ["PixelSpacings"]),
        (on_one("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), ["Localizers", "StepRatioBelow"]),
    ],
)
def test_both_ask_for_one_regular_volume_without_localizer(rule: Rule, change: Change, criteria: list[str]) -> None:
    series = made(slices=110)
    change(series)
    assert failed(rule, series) == criteria


@pytest.mark.parametrize("rule", [NLST, NSCLC])
def test_both_refuse_two_images_at_each_position_and_a_coronal_series(rule: Rule) -> None:
    twice = [*made(), *made()]
    for number, ds in enumerate(twice):
        ds.SOPInstanceUID = f"1.2.3.{number}"
    assert failed(rule, twice) == ["TimePoints", "ImagesPerPosition"]
    coronal = made()
    for number, ds in enumerate(coronal):
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [0, number * 2.5, 0]
    assert failed(rule, coronal) == ["Axial"]


@pytest.mark.parametrize("step_mm", [0.33, 0.625, 0.7, 1.1, 2.5])
def test_a_missing_slice_is_seen_at_every_spacing(step_mm: float) -> None:
    series = made(step_mm=step_mm, slices=110)
    assert failed(NSCLC, series) == []
    del series[50]
    assert failed(NSCLC, series) == ["StepRatioBelow"]


def test_a_criterion_that_the_rule_writes_replaces_that_of_the_set() -> None:
    rule = Rule.model_validate({"Name": "a", "Use": "sci_data_2024_nlst", "Match": {"Slices": {"Min": 30}}})
    assert rule.match.slices is not None
    assert (rule.match.slices.min, rule.match.step_ratio_below) == (30, 2)
    assert rule.match.exclude_kinds == DEFAULT_RULE.match.exclude_kinds


def test_a_set_is_read_alike_by_the_processes_that_the_service_starts() -> None:
    section = {"Rules": [{"Name": "a", "Use": "sci_data_2024_nsclc", "SeriesPerStudy": "best"}]}
    configuration = parse_section(section, {})
    assert configuration.rules[0].match == NSCLC.match
    assert type(configuration).model_validate_json(section_json(configuration)) == configuration


def test_every_set_has_criteria_and_its_column_in_the_documentation() -> None:
    assert set(RULE_SETS) == set(RuleSet)
    text = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
    head, *rows = re.findall(r"^\| (.*) \|$", text.partition("### Published")[2].partition("###")[0], re.MULTILINE)
    assert re.findall(r"`(\w+)`", head) == list(RuleSet)
    documented = {re.findall(r"`(\w+)`", row)[0] for row in rows if "`" in row}
    assert all(documented == set(criteria) for criteria in RULE_SETS.values())


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"Use": "sci_data_2024"}, 'Rules[0].Use: "sci_data_2024" is not allowed'),
        ({"Use": 3}, "Rules[0].Use: 3 is not allowed"),
        ({"Use": "sci_data_2024_nlst", "Match": 3}, "Rules[0].Match: 3 is not allowed"),
        ({"Use": "sci_data_2024_nlst", "Match": {"Slice": 3}}, "Rules[0].Match.Slice: unknown key"),
        ({"SeriesPerStudy": "one"}, 'Rules[0].SeriesPerStudy: "one" is not allowed; allowed: "all" or "best"'),
        ({"Match": {"StepRatioBelow": 1}}, "Rules[0].Match.StepRatioBelow: 1 is not allowed"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_section({"Rules": [{"Name": "a", **rule}]}, {})
    assert f"Enrichment.{said}" in str(caught.value)
