"""Logs go to one private rotating file, and talkative libraries are quiet."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin import logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)  # a forced set-up would close those of pytest
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_line_has_time_level_process_logger_and_message(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log")
    logging.getLogger("orthanc_plugin.jobs").info("job %s done", "1.2.3")
    line = (tmp_path / "service.log").read_text()
    assert line.endswith(" orthanc_plugin.jobs: job 1.2.3 done\n")
    assert " INFO " in line
    assert "Z " in line


def test_file_is_private_also_after_rotation_and_where_it_was_open_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "service.log"
    path.touch(mode=0o644)
    monkeypatch.setattr(logs, "MAX_BYTES", 200)
    logs.configure_logging(path)
    for number in range(5):
        logging.getLogger("orthanc_plugin").info("line %d of about a hundred characters %s", number, "." * 40)
    assert (tmp_path / "service.log.1").exists()
    assert {mode(file) for file in tmp_path.iterdir()} == {0o600}


def test_libraries_that_log_requests_say_warnings_only(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log", logging.DEBUG)
    logging.getLogger("httpx").info("GET /dicom-web/studies?PatientID=4711")
    logging.getLogger("dicomweb_client.web").debug("PatientID=4711")
    logging.getLogger("urllib3.connectionpool").warning("retry")
    text = (tmp_path / "service.log").read_text()
    assert "4711" not in text
    assert "retry" in text


def test_second_call_replaces_the_first(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "a.log")
    logs.configure_logging(tmp_path / "b.log")
    logging.getLogger("orthanc_plugin").info("once")
    assert (tmp_path / "a.log").read_text() == ""
    assert (tmp_path / "b.log").read_text().count("once") == 1
