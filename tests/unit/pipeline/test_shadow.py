"""A shadow run: another model beside those of the rule, kept as numbers, never stored, never in the way."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, ending
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Output, Plan, PlannedModel
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ConfigError, InputError, ModelError, Refusal
from orthanc_plugin.inference.engine import SegmentationEngine
from orthanc_plugin.rules.decide import decide
from orthanc_plugin.rules.installed import Installed, check_rules
from orthanc_plugin.rules.tags import SeriesTags
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD, ellipsoids
from tests.support.fakes.hand_job import ORGANS, SERIES, HandProcess, job, run, run_session

NEW = PlannedModel("organs_v2", "2" * 64)
NEW_CARD = replace(CARD, name=NEW.name, digest=NEW.digest)
TAGS = SeriesTags(
    archive="local", modality=("CT",), sop_class_uids=("1.2.840.10008.5.1.4.1.1.2",),
    image_types=("ORIGINAL", "PRIMARY", "AXIAL"), rescale_types=(), body_part_examined=(), series_description=(),
    study_description=(), protocol_name=(), convolution_kernel=(), slices=300, slice_thickness_mm=1.0, spacing_mm=0.7,
    time_points=1, study_age_days=2, remote_aet=None, origin=None,
    axial=True, complete=True,
)  # fmt: skip
PLAIN = job(None, Output.RADIOMICS, Output.CHECKS)
SHADOWED = replace(PLAIN, plan=replace(PLAIN.plan, shadow=(NEW,)))


class NewEngine:
    """Finds the organs of CARD, without their uppermost slice."""

    card, provider = NEW_CARD, "cpu"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.runs = 0

    def segment(self, volume: Volume) -> Segmentation:
        self.runs += 1
        if self.error is not None:
            raise self.error
        found = ellipsoids(SERIES)
        labels = found.labels.copy()
        labels[np.flatnonzero(labels.any((1, 2)))[-1]] = 0
        first, *others = found.segments
        labels[labels == first.number] = 0
        return replace(found, labels=labels, segments=tuple(others))


class ShadowProcess(HandProcess):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(CHEST)
        self.new = NewEngine(error)

    def card(self, model: PlannedModel) -> ModelCard:
        return NEW_CARD if model == NEW else super().card(model)

    def segmenter(self, model: PlannedModel) -> SegmentationEngine:
        return self.new if model == NEW else super().segmenter(model)


def test_a_shadow_leaves_numbers_for_each_structure_and_stores_nothing() -> None:
    alone, process = HandProcess(CHEST), ShadowProcess()
    run(alone, PLAIN)
    outcomes = run(process, SHADOWED)
    assert {*process.stored} == {*alone.stored}
    shadow = outcomes[f"shadow {NEW.name}"]
    assert shadow.stored is None
    assert shadow.stage.volumes_ml == {}  # those are the volumes of results
    assert shadow.stage.provider == "cpu"
    assert f"compared with {CARD.name}: median Dice 0." in shadow.stage.notes[-1]
    rows = {row.label: row for row in shadow.stage.compared}
    organs = [label for label in CARD.labels if label.key != "body"]
    assert {*rows} == {label.label for label in organs}
    assert {row.model for row in rows.values()} == {CARD.name}
    volumes = outcomes[f"segment {CARD.name}"].stage.volumes_ml
    lost = ellipsoids(SERIES).segments[0]
    for label in organs:
        row = rows[label.label]
        assert row.model_volume_ml == pytest.approx(volumes[label.key], abs=0.001)
        if label.key == lost.key:
            assert (row.volume_ml, row.dice) == (0.0, 0.0)
            continue
        assert 0 < row.volume_ml <= row.model_volume_ml
        assert row.dice == pytest.approx(2 * row.volume_ml / (row.volume_ml + row.model_volume_ml), abs=1e-4)
    assert any(row.dice is not None and 0.5 < row.dice < 1 for row in rows.values())


def test_what_the_rule_did_not_store_is_compared_with_nothing() -> None:
    process = ShadowProcess()
    process.engine.finds_nothing = True
    rows = run(process, SHADOWED)[f"shadow {NEW.name}"].stage.compared
    assert {(row.model_volume_ml, row.dice) for row in rows} == {(None, None)}
    assert any(row.volume_ml for row in rows)


@pytest.mark.parametrize(
    "error", [ModelError("its graph is broken"), InputError(Refusal.TOO_LARGE, "too large"), RuntimeError("odd")]
)
def test_a_shadow_that_fails_leaves_a_note_and_the_job_is_done(error: Exception) -> None:
    outcomes = run(ShadowProcess(error), SHADOWED)
    shadow = outcomes[f"shadow {NEW.name}"]
    assert shadow.stage.notes[-1].startswith("not run: ")
    assert not shadow.stage.compared
    assert ending([*outcomes.values()]).state is JobState.DONE


def test_a_series_that_is_gone_ends_the_job_in_the_shadow_too() -> None:
    outcomes = run(ShadowProcess(InputError(Refusal.GONE, "gone")), SHADOWED)
    assert ending([*outcomes.values()]).reason == Refusal.GONE


def test_a_shadow_does_not_run_where_a_worker_died_in_the_job() -> None:
    process = ShadowProcess()
    with closing(process.sessions.open(SHADOWED, deaths=1)) as session:
        outcomes = run_session(session)
    assert outcomes[f"shadow {NEW.name}"].stage.notes == ("not run: 1 worker(s) died in this job",)
    assert process.new.runs == 0


def test_plan_and_outcome_keep_it_and_others_are_written_as_before() -> None:
    assert EnrichJob.from_json(SHADOWED.to_json()) == SHADOWED
    assert SHADOWED.plan.digest != PLAIN.plan.digest
    assert "shadow" not in PLAIN.plan.to_json()
    outcome = run(ShadowProcess(), SHADOWED)[f"shadow {NEW.name}"]
    assert StageOutcome.from_json(outcome.to_json()) == outcome
    assert "compared" not in run(HandProcess(CHEST), PLAIN)[f"segment {ORGANS.name}"].to_json()


def rule(**keys: Any) -> Any:
    return parse_section({"Rules": [{"Name": "a", "Models": ["one"], **keys}]}, {})


def test_a_rule_names_it_and_it_must_be_installed_and_another_one() -> None:
    configuration = rule(Shadow=["two", "two"], Locate="")
    installed = Installed({"one": "d1", "two": "d2"})
    check_rules(configuration, installed)
    plan = decide(configuration.rules, TAGS, installed.digests)
    assert isinstance(plan, Plan)
    assert plan.shadow == (PlannedModel("two", "d2"),)
    assert plan.models == (PlannedModel("one", "d1"),)
    with pytest.raises(ConfigError, match=r'Rules\[0\]\.Shadow: "two" is not allowed'):
        check_rules(configuration, Installed({"one": "d1"}))
    with pytest.raises(ConfigError, match="which Models names, too"):
        rule(Shadow=["one"])
    with pytest.raises(ConfigError, match='Shadow needs Measure "models"'):
        rule(Shadow=["two"], Measure="expert")
