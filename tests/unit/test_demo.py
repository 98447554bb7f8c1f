"""What the demo decides by itself; the demo as a whole runs with every submission (.ci/run)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from orthanc_plugin import demo
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.validation.phantom import make_phantom
from orthanc_plugin.validation.phantom_dicom import write_phantom
from tests.memory_archive import ct_series


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
        with pytest.raises(ConfigError, match=r"DICOM|no folder"):
            list(demo._dicom_files(folder))


def test_orthanc_listens_to_this_machine_with_a_password_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_plugin_library", lambda name: name)
    configuration = demo._orthanc_configuration(tmp_path, 8042, "secret")
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
        assert demo._latest(client, demo.Servers("http://orthanc", "http://service", "")) == rows[:1]
