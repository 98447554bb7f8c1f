"""`inspect` tells each step, criterion and figure of the series of a folder, as text, JSON and picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from orthanc_plugin.cli import main as cli
from orthanc_plugin.domain.input_quality import InputCheck
from orthanc_plugin.errors import Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom, write_instances
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.four_series import BEST_RULE, STUDY_SERIES, four_series_of

Inspect = Callable[..., tuple[int, dict[str, Any]]]

SHAPE = (60, 96, 96)
STEPS = ["headers", "rules", "identity", "pixels", "input-quality"]
MEASURED = {*InputCheck} - {InputCheck.CONTRAST, InputCheck.BODY_PART}


def scan() -> list[FileDataset]:
    return encode_phantom(make_phantom(SHAPE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_instances(tmp_path / "ct", scan())
    return tmp_path / "ct"


@pytest.fixture
def inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Inspect a folder by one rule; give the exit code and what was found of each series, by UID."""

    def run(folder: Path, *options: str, **rule: Any) -> tuple[int, dict[str, Any]]:
        config = tmp_path / "orthanc.json"
        config.write_text(json.dumps({"Enrichment": {"Rules": [{"Name": "chest", **rule}]}}))
        code = cli.main(["inspect", str(folder), "--json", "--config", str(config), *options])
        return code, {item["series_instance_uid"]: item for item in json.loads(capsys.readouterr().out)}

    return run


def states(inspection: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["state"], step["reason"]) for step in inspection["steps"]]


def test_people_read_each_step_and_each_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(folder)]) == cli.EXIT_DONE
    shown = capsys.readouterr().out
    assert "would enrich" in shown
    for name in (*STEPS, *MEASURED):
        assert name in shown
    assert [path for path in folder.rglob("*") if path.suffix != ".dcm"] == []


def test_people_read_the_criterion_that_is_not_met(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "orthanc.json"
    rules = [{"Name": "legs", "Match": {"BodyPartExamined": ["LEG"]}}]
    config.write_text(json.dumps({"Enrichment": {"Rules": rules}}))
    assert cli.main(["inspect", str(folder), "--config", str(config)]) == cli.EXIT_FAILED
    shown = capsys.readouterr().out
    for told in ("would skip", "legs", "BodyPartExamined", "LEG"):
        assert told in shown


def test_pixels_are_read_once(tmp_path: Path) -> None:
    """On a network share, the time of an inspection is that of its reading."""
    write_instances(tmp_path / "ct", encode_phantom(make_phantom((8, 512, 512), (40.0, 0.8, 0.8))))
    size = sum(file.stat().st_size for file in (tmp_path / "ct").iterdir())
    cli.main(["inspect", str(tmp_path / "ct")])  # loads the libraries
    before = bytes_read()
    cli.main(["inspect", str(tmp_path / "ct")])
    assert size <= bytes_read() - before < 1.5 * size


def bytes_read() -> int:
    """How many bytes this process has read from files so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_machines_read_stable_codes(folder: Path, inspect: Inspect) -> None:
    code, found = inspect(folder)
    ((uid, inspection),) = found.items()
    assert code == cli.EXIT_DONE
    assert (uid, inspection["would"], inspection["reason"], inspection["rule"]) == (
        scan()[0].SeriesInstanceUID,
        "enrich",
        "",
        "chest",
    )
    assert [step["step"] for step in inspection["steps"]] == STEPS
    assert {reason for _, reason in states(inspection)} == {""}
    assert {figure["check"] for figure in inspection["figures"]} == MEASURED


def test_a_series_that_no_rule_takes_is_measured_all_the_same(folder: Path, inspect: Inspect) -> None:
    code, found = inspect(folder, Match={"BodyPartExamined": ["LEG"]})
    (inspection,) = found.values()
    assert (code, inspection["would"], inspection["rule"]) == (cli.EXIT_FAILED, "skip", "")
    assert inspection["reason"] == Refusal.NO_RULE
    assert [failure["criterion"] for failure in inspection["rules"][0]["failures"]] == ["BodyPartExamined"]
    assert {figure["check"] for figure in inspection["figures"]} == MEASURED


def test_a_check_that_the_rule_names_refuses_the_series(folder: Path, inspect: Inspect) -> None:
    limits = {"MaxNoise": 0.001}
    code, found = inspect(folder, InputQuality=limits)
    (inspection,) = found.values()
    assert (code, states(inspection)[-1]) == (cli.EXIT_DONE, ("noted", ""))
    code, found = inspect(folder, InputQuality={**limits, "Refuse": ["noise"]})
    (inspection,) = found.values()
    assert (code, states(inspection)[-1]) == (cli.EXIT_FAILED, ("refused", "input-quality"))
    assert inspection["reason"] == Refusal.INPUT_QUALITY


def test_the_series_is_read_as_its_rule_says(tmp_path: Path, inspect: Inspect) -> None:
    slices = scan()
    write_instances(tmp_path / "gap", [*slices[:10], *slices[11:]])
    code, found = inspect(tmp_path / "gap")
    (refused,) = found.values()
    assert (code, states(refused)[-2:]) == (
        cli.EXIT_FAILED,
        [("refused", Refusal.MISSING_SLICE), ("not-asked", "")],
    )
    code, found = inspect(tmp_path / "gap", MissingSlices="interpolate")
    (taken,) = found.values()
    assert (code, states(taken)[-2]) == (cli.EXIT_DONE, ("noted", ""))


def test_only_the_best_series_of_a_study_would_be_enriched(tmp_path: Path, inspect: Inspect) -> None:
    for name, instances in four_series_of(make_phantom((48, 16, 16), (2.5, 20, 20))).items():
        write_instances(tmp_path / "study" / name, instances)
    _, found = inspect(tmp_path / "study", **BEST_RULE)
    told = {name: (found[uid]["would"], found[uid]["reason"]) for name, uid in STUDY_SERIES.items()}
    assert told.pop("scout")[0] == "skip"
    assert told == {
        "soft-thin": ("enrich", ""),
        "sharp-thin": ("skip", Refusal.BETTER_SERIES),
        "thick": ("skip", Refusal.BETTER_SERIES),
    }


def test_one_series_can_be_chosen(folder: Path, inspect: Inspect, capsys: pytest.CaptureFixture[str]) -> None:
    write_instances(folder / "other", encode_phantom(make_phantom(SHAPE), uid_seed="other"))
    uid = str(scan()[0].SeriesInstanceUID)
    assert [*inspect(folder, "--series", uid)[1]] == [uid]
    assert cli.main(["inspect", str(folder), "--series", "1.2.3"]) == cli.EXIT_CONFIG
    assert "1.2.3" in capsys.readouterr().err


def test_a_picture_of_each_series_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    assert cli.main(["inspect", str(folder), "--out", str(out)]) == cli.EXIT_DONE
    (picture,) = out.iterdir()
    assert picture.name == f"{scan()[0].SeriesInstanceUID}.png"
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (width >= 96, height >= 96) == (True, True)
