"""What the demo decides by itself; the demo as a whole runs with every submission (.ci/run)."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.cli import demo_orthanc
from orthanc_plugin.cli import demo_run as demo
from orthanc_plugin.cli.demo_model import ShownModel, section_of, with_locator
from orthanc_plugin.errors import ConfigError, ModelError
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.fakes.memory_archive import ct_series


def test_a_folder_that_no_demo_made_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(ConfigError, match="no demo made it"):
        demo._fresh(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_its_own_folder_is_emptied_and_private(tmp_path: Path) -> None:
    first = demo._fresh(tmp_path / "demo")
    (first / "storage").mkdir()
    again = demo._fresh(tmp_path / "demo")
    assert [path.name for path in again.iterdir()] == ["made-by-orthanc-enrich-demo"]
    assert again.stat().st_mode & 0o777 == 0o700


def test_dicom_files_are_found_at_any_depth_and_others_passed_over(tmp_path: Path) -> None:
    written = write_phantom(tmp_path / "a" / "b", make_phantom(shape=(3, 16, 16)))
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert [path for path, _ in demo._dicom_files(tmp_path)] == sorted(written)


def test_only_ct_is_waited_for(tmp_path: Path) -> None:
    """A report or contour beside the CT gets no decision, so that the demo would wait for ever."""
    write_phantom(tmp_path / "ct", make_phantom(shape=(3, 16, 16)))
    (report,) = ct_series(1, series="1.2.9", modality="SR")
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    sent = list(demo._dicom_files(tmp_path))
    assert len(sent) == 4
    assert demo._ct_series(sent, tmp_path) == {str(sent[0][1].SeriesInstanceUID)}
    with pytest.raises(ConfigError, match="no CT"):
        demo._ct_series(sent[-1:], tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match=r"DICOM|not a folder"):
            list(demo._dicom_files(folder))


def test_orthanc_listens_to_this_machine_with_a_password_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_orthanc, "_plugin_library", lambda name: name)
    configuration = demo_orthanc._orthanc_configuration(tmp_path, 8042, "secret")
    assert configuration["RemoteAccessAllowed"] is False
    assert configuration["AuthenticationEnabled"] is True
    assert configuration["DicomServerEnabled"] is False


def test_a_content_that_was_superseded_is_not_waited_for() -> None:
    rows = [
        {"series_instance_uid": "1", "state": "done", "superseded_by": ""},
        {"series_instance_uid": "1", "state": "superseded", "superseded_by": "f" * 64},
    ]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"series": rows}))
    with httpx.Client(transport=transport) as client:
        assert demo._latest(client, demo_orthanc.Servers("http://orthanc", "http://service", "")) == rows[:1]


CHEST = Path(__file__).parents[3] / "models" / "chest_structures"


def section(model: str, directory: Path, *, allow: bool = False) -> tuple[dict[str, object], str]:
    """The demo's settings for a model, and what it said."""
    said = io.StringIO()
    return section_of(ShownModel(model, None, allow), directory, Console(file=said, width=400)), said.getvalue()


def as_test_model(folder: Path) -> Path:
    """The built-in model with a card that calls it a test model."""
    shutil.copytree(CHEST, folder / CHEST.name)
    card = json.loads((CHEST / "card.json").read_text())
    (folder / CHEST.name / "card.json").write_text(json.dumps(card | {"test_model": True}))
    return folder / CHEST.name


@pytest.mark.parametrize("model", ["chest_structures", str(CHEST)])
def test_a_model_is_shown_by_name_or_folder(tmp_path: Path, model: str) -> None:
    found, _ = section(model, tmp_path)
    assert found == {
        "ModelsDirectory": str(tmp_path / "models"),
        "Rules": [{"Name": "demo", "Models": ["chest_structures"], "AllowTestModels": False}],
    }
    assert read_card(tmp_path / "models" / "chest_structures").digest == read_card(CHEST).digest


def test_a_test_model_is_called_one_and_runs_on_patients_only_if_asked(tmp_path: Path) -> None:
    model = as_test_model(tmp_path / "a")
    (tmp_path / "demo").mkdir()
    found, said = section(str(model), tmp_path / "demo", allow=True)
    assert "trained on phantoms only" in said
    assert found["Rules"] == [{"Name": "demo", "Models": ["chest_structures"], "AllowTestModels": True}]


def test_a_phantom_is_located_by_the_stand_in_and_a_patient_never(tmp_path: Path) -> None:
    assert with_locator({}, tmp_path, None, phantom=False) == {}
    found = with_locator({}, tmp_path, None, phantom=True)
    assert found == {
        "ModelsDirectory": str(tmp_path / "models"),
        "Rules": [{"Name": "demo", "Locate": "bpr_standin"}],
    }
    assert read_card(tmp_path / "models" / "bpr_standin").test_model


def test_a_patient_is_located_by_the_installed_model_also_where_another_model_is_shown(tmp_path: Path) -> None:
    installed = tmp_path / "installed" / "bpr"
    shutil.copytree(CHEST.with_name("bpr_standin"), installed)
    card = json.loads((installed / "card.json").read_text())
    (installed / "card.json").write_text(json.dumps(card | {"name": "bpr", "test_model": False}))
    (tmp_path / "demo").mkdir()
    shown, _ = section("chest_structures", tmp_path / "demo")
    found = with_locator(shown, tmp_path / "demo", installed.parent, phantom=False)
    rule = {"Name": "demo", "Models": ["chest_structures"], "AllowTestModels": False, "Locate": "bpr"}
    assert found == {"ModelsDirectory": str(tmp_path / "demo" / "models"), "Rules": [rule]}
    assert sorted(path.name for path in (tmp_path / "demo" / "models").iterdir()) == ["bpr", "chest_structures"]


def shown_location(**change: object) -> str:
    """What the terminal shows of a location."""
    location = {"reason": "", "tag": "CHEST", "valid_spacing": True, "coverage": {"chest": 0.918, "legs": 0.0}}
    console = Console(file=io.StringIO(), width=100)
    demo._show_location(location | {"landmarks": [{}, {}]} | change, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_the_place_in_the_body_is_shown_or_why_there_is_none() -> None:
    shown = shown_location()
    assert "CHEST" in shown
    assert "chest in the scan │ 92%" in shown
    assert "landmarks │ 2" in shown
    assert "legs" not in shown
    assert "fits the scores" in shown
    assert "doubtful" in shown_location(valid_spacing=False)
    nothing = shown_location(reason="3 slices show a body", tag="NONE", coverage={}, landmarks=[])
    assert "no valid region │ 3 slices show a body" in nothing
    assert "spacing" not in nothing


def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"known are: .*chest_structures"):
        section("chest_structure", tmp_path)


def test_weights_are_refused_where_they_cannot_be_converted(tmp_path: Path) -> None:
    """Without torch the remedy is named; with it, that the folder holds no weights."""
    (tmp_path / "weights").mkdir()
    with pytest.raises((ConfigError, ModelError), match=r"install|weights"):
        section(str(tmp_path / "weights"), tmp_path)


@pytest.mark.parametrize(
    ("status", "state", "line", "end"),
    [
        (303, "done", "Open the CT", "/enrichment/open?StudyInstanceUID=1.2&SeriesInstanceUID=1.2.3"),
        (404, "done", "OHIF is not installed", "/enrichment/"),
        (303, "failed", "Open the dashboard:", "/enrichment/"),
    ],
)
def test_the_demo_ends_with_one_link_that_logs_in(
    monkeypatch: pytest.MonkeyPatch, status: int, state: str, line: str, end: str
) -> None:
    body = {"error": {"message": "OHIF is not installed: run it"}}
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body, headers={"Location": "/viewer"}))
    monkeypatch.setattr(demo_orthanc.Servers, "client", lambda self: httpx.Client(transport=transport))
    servers = demo_orthanc.Servers("http://127.0.0.1:8042", "http://127.0.0.1:8043", "pass")
    rows = [{"state": state, "study_instance_uid": "1.2", "series_instance_uid": "1.2.3"}]
    said, link = demo._invitation(rows, servers)
    assert line in said
    assert link == f"http://demo:pass@127.0.0.1:8043{end}"


def test_a_decision_before_the_last_slice_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow upload made the series look stable, and its slices missing."""
    sent_at = datetime(2026, 1, 2, tzinfo=UTC)
    early, late = (
        {
            "series_instance_uid": "1",
            "state": state,
            "superseded_by": "",
            "first_seen": moment.isoformat(),
            "job_id": "",
        }
        for state, moment in (("skipped", sent_at - timedelta(seconds=1)), ("done", sent_at + timedelta(seconds=3)))
    )
    answers = iter([[early], [early], [late]])
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"series": next(answers)}))
    monkeypatch.setattr(demo_orthanc.Servers, "client", lambda self: httpx.Client(transport=transport))
    servers = demo_orthanc.Servers("http://orthanc", "http://service", "")
    rows = demo._await_decisions({"1"}, sent_at, servers, Console(file=io.StringIO()))
    assert [row["state"] for row in rows] == ["done"]
