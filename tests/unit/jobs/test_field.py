"""A model with a field of its own runs where the scan shows that part of the body, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orthanc_plugin.catalog.card import BodyField, ModelCard
from orthanc_plugin.domain.plan import Location, Output, PlannedModel
from orthanc_plugin.pipeline import field
from tests.support.cases.location_case import CHEST
from tests.support.cases.results_case import CARD, small_series
from tests.support.fakes.hand_job import BPR, BPR_CARD, HandProcess, job, run

HEAD_CARD = replace(CARD, field=BodyField.HEAD_NECK)
SKULL = range(6, 12)


class HeadProcess(HandProcess):
    """Runs the model of head and neck."""

    def card(self, model: PlannedModel) -> ModelCard:
        return BPR_CARD if model == BPR else HEAD_CARD


def process() -> HeadProcess:
    """A process whose scan shows a skull in its upper half."""
    made, series = HeadProcess(CHEST), small_series()
    y, x = np.mgrid[-16:16, -16:16] * 8.0 + 4.0
    outside, inside = ((x / (75 - wall)) ** 2 + (y / (95 - wall)) ** 2 for wall in (0, 12))
    hu = np.full(series.volume.voxels_hu.shape, -1000, np.float32)
    hu[:, outside < 1] = 900.0
    hu[:, inside < 1] = 35.0
    hu[: SKULL.start] = np.where(outside < 1, 40.0, -1000.0)
    what = job(None)
    made.series[what.series_instance_uid] = replace(series, volume=replace(series.volume, voxels_hu=hu))
    return made


def test_a_scan_without_a_head_gets_nothing_and_says_why() -> None:
    elsewhere = HeadProcess(CHEST)
    outcomes = run(elsewhere, job(None, Output.RADIOMICS, Output.LANDMARKS, Output.CHECKS))
    assert [*outcomes] == ["retrieve", f"segment {CARD.name}"]
    assert outcomes[f"segment {CARD.name}"].stage.notes == (f"{CARD.name} {field.NOT_SHOWN}",)
    assert not elsewhere.engine.seen
    assert not elsewhere.stored


def test_a_model_sees_its_field_only_and_checks_and_reports_know_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field, "NECK_MM", 10.0)
    here = process()
    outcomes = run(here, job(None, Output.LANDMARKS, Output.CHECKS))
    (seen,) = here.engine.seen
    assert len(seen.voxels_hu) == 8  # the skull in slices 6 to 11, and 10 mm below
    seg = outcomes[f"segment {CARD.name}"].stored
    assert seg is not None
    assert "only slices 5 to 12, counted from the feet, were analysed: head and neck" in (
        here.stored[seg.sop_instance_uid].ImageComments
    )
    cut = [check for check in outcomes["check"].stage.checks if check.check == "complete" and not check.passed]
    assert cut  # the ellipsoids reach below the field


def test_body_part_regression_that_sees_the_trunk_only_keeps_the_model_out() -> None:
    here = process()
    outcome = run(here, job(Location(BPR)))[f"segment {CARD.name}"]
    assert outcome.stage.notes == (f"{CARD.name} {field.NOT_SHOWN}",)
    assert not here.engine.seen
