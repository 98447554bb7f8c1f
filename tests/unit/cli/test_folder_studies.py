"""A folder with a study of four series: `run` enriches the best, `rules test` explains the ranking with each figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orthanc_plugin.cli import main as cli
from orthanc_plugin.cli import run as once
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.domain.job import JobState, StageOutcome, StageView
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline.session import Session
from tests.support.cases.four_series import BEST_RULE, STUDY_SERIES, four_series_of


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four series, and a second study with one series that alone would rank last."""
    folder = tmp_path_factory.mktemp("study")
    for name, instances in four_series_of(make_phantom((48, 16, 16), (2.5, 20, 20))).items():
        write_instances(folder / name, instances)
    other = encode_phantom(make_phantom((24, 16, 16), (5, 20, 20)), uid_seed="other")
    for ds in other:
        ds.ConvolutionKernel = "LUNG"
    write_instances(folder / "other", other)
    return folder


def settings(**rule: Any) -> Configuration:
    return parse_section({"Rules": [{**BEST_RULE, **rule}]}, {})


def named(found: Any) -> dict[str, Any]:
    names = {str(uid): name for name, uid in STUDY_SERIES.items()}
    return {names.get(item.series_instance_uid, "other"): item for item in found}


def test_rules_test_explains_the_ranking_with_each_figure(study: Path) -> None:
    verdicts = named(once.check_rules(study, settings()))
    assert {name: verdict.reason for name, verdict in verdicts.items()} == {
        "soft-thin": "",
        "sharp-thin": Refusal.BETTER_SERIES,
        "thick": Refusal.BETTER_SERIES,
        "scout": "",
        "other": "",
    }
    assert verdicts["scout"].takes == ""
    order = [STUDY_SERIES[name] for name in ("soft-thin", "thick", "sharp-thin")]
    for name in ("soft-thin", "sharp-thin", "thick"):
        assert [candidate.series_instance_uid for candidate in verdicts[name].study] == order
    assert len(verdicts["other"].study) == 1


def test_the_command_prints_the_ranking_for_people_and_machines(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps({"Enrichment": {"Rules": [BEST_RULE]}}))
    assert cli.main(["rules", "test", str(study), "--config", str(config)]) == cli.EXIT_DONE
    shown = capsys.readouterr().out
    for figure in ("STANDARD (soft)", "LUNG (sharp)", "2.5 mm", "5 mm", "118 mm", "48", "1 (this series)"):
        assert figure in shown
    assert f"better series chosen: {STUDY_SERIES['soft-thin']} (slice thickness 2.5 mm, not 5 mm)" in shown
    assert cli.main(["rules", "test", str(study), "--json", "--config", str(config)]) == cli.EXIT_DONE
    told = {item["series_instance_uid"]: item for item in json.loads(capsys.readouterr().out)}
    (first, *_) = told[STUDY_SERIES["thick"]]["study"]
    assert (first["series_instance_uid"], first["sharpness"]) == (STUDY_SERIES["soft-thin"], "soft")


def test_run_skips_the_others_with_the_reason(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [StageOutcome(StageView("retrieve", 0.1, 1.0))]
    monkeypatch.setattr(once, "stages_of", lambda session, run: iter(stages))
    outcomes = named(once.enrich_folder(study, tmp_path / "out", settings(), Console(quiet=True)))
    assert {name: (outcome.state, outcome.reason) for name, outcome in outcomes.items()} == {
        "soft-thin": (JobState.DONE, ""),
        "sharp-thin": (JobState.SKIPPED, Refusal.BETTER_SERIES),
        "thick": (JobState.SKIPPED, Refusal.BETTER_SERIES),
        "scout": (JobState.SKIPPED, Refusal.TOO_FEW_SLICES),
        "other": (JobState.DONE, ""),
    }
    assert "kernel STANDARD (soft), not LUNG (sharp)" in outcomes["sharp-thin"].detail


def test_a_chosen_series_that_is_refused_leaves_its_place_to_the_next(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = StageView("retrieve", 0.1, 1.0)
    refused = StageOutcome(view, None, JobState.SKIPPED, Refusal.MISSING_SLICE, "a slice is missing")

    def stages(session: Session, run: object) -> Iterator[StageOutcome]:
        soft = session.job.series_instance_uid == STUDY_SERIES["soft-thin"]
        return iter([refused if soft else StageOutcome(view)])

    monkeypatch.setattr(once, "stages_of", stages)
    outcomes = named(once.enrich_folder(study, tmp_path / "out", settings(), Console(quiet=True)))
    assert {name: (outcome.state, outcome.reason) for name, outcome in outcomes.items()} == {
        "soft-thin": (JobState.SKIPPED, Refusal.MISSING_SLICE),
        "thick": (JobState.DONE, ""),
        "sharp-thin": (JobState.SKIPPED, Refusal.BETTER_SERIES),
        "scout": (JobState.SKIPPED, Refusal.TOO_FEW_SLICES),
        "other": (JobState.DONE, ""),
    }
    assert list(outcomes) == ["other", "scout", "sharp-thin", "soft-thin", "thick"]  # the order of the files


def test_by_default_run_enriches_every_series(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [StageOutcome(StageView("retrieve", 0.1, 1.0))]
    monkeypatch.setattr(once, "stages_of", lambda session, run: iter(stages))
    outcomes = once.enrich_folder(study, tmp_path / "out", settings(SeriesPerStudy="all"), Console(quiet=True))
    assert [outcome.state for outcome in outcomes].count(JobState.DONE) == 4
    assert all(not verdict.study for verdict in once.check_rules(study, settings(SeriesPerStudy="all")))
