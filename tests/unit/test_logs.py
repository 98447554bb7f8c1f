"""Logs go to one private rotating file, and talkative libraries are quiet."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthanc_plugin import logs
from orthanc_plugin.errors import TransientError


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)  # a forced set-up would close those of pytest
    yield
    logging.setLogRecordFactory(logging.LogRecord)
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


VALUE = "Planted^Name"


def test_another_librarys_words_never_reach_a_log(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log", logging.DEBUG)
    for library in (
        "pydicom",
        "pydicom.config",
        "dbos",
        "highdicom",
        "PIL",
        "asyncio",
        "concurrent.futures",
        "unheard.of",
    ):
        logging.getLogger(library).error(f"Invalid value: {VALUE}")
        logging.getLogger(library).error("Invalid value %s", VALUE)
    logging.getLogger("urllib3").error("url=%s", VALUE)
    text = (tmp_path / "service.log").read_text()
    assert VALUE not in text
    assert "ERROR" in text
    assert " pydicom: said something at test_logs.py:" in text


def test_an_exception_leaves_its_kind_and_place_only(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log")

    def fails() -> None:
        try:
            int(VALUE)
        except ValueError as error:
            raise KeyError(VALUE) from error

    log = logging.getLogger("orthanc_plugin.jobs")
    try:
        fails()
    except KeyError as error:
        log.exception("stage failed")
        log.error("because of %s", error)
        log.error("because of it", exc_info=error)
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
    text = (tmp_path / "service.log").read_text()
    assert VALUE not in text
    assert text.count("KeyError at test_logs.py:") == 4
    assert text.count("caused by ValueError at test_logs.py:") == 3
    assert "in fails" in text


def test_our_own_errors_keep_their_text(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log")
    logging.getLogger("orthanc_plugin.jobs").warning("waits: %s", TransientError("archive far is away"))
    assert "waits: TransientError: archive far is away" in (tmp_path / "service.log").read_text()


PROCESS = f"""
import gc, logging, sys, threading, warnings
sys.argv = ["orthanc-enrich", "phantom"]
from orthanc_plugin import logs
from orthanc_plugin.errors import TransientError
logs.guard_process()
import pydicom, pydicom.dataset
ds = pydicom.dataset.Dataset.from_json({{"00100030": {{"vr": "DA", "Value": ["{VALUE}"]}}}})
for _ in range(3):
    warnings.warn("Invalid value {VALUE}")
ds.PatientBirthDate
logging.getLogger("pydicom").warning("Invalid value {VALUE}")
thread = threading.Thread(target=int, args=("{VALUE}",)); thread.start(); thread.join()
class Late:
    def __del__(self): raise ValueError("{VALUE}")
Late(); gc.collect()
import resource
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
raise RuntimeError("{VALUE}")
"""


def test_a_guarded_process_writes_no_value_whatever_happens() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert VALUE not in done.stderr + done.stdout
    assert done.returncode == 1
    for said in ("UserWarning at <string>", "a thread ended by ValueError", "an error was ignored: ValueError",
                 "error: unexpected RuntimeError at <string>"):  # fmt: skip
        assert said in done.stderr
    assert done.stderr.count("UserWarning at <string>") == 1


COMMAND = f"""
import argparse, sys
from orthanc_plugin.cli import main
def broken(desk):
    raise ValueError("{VALUE}")
class Parser:
    def parse_args(self, arguments):
        return argparse.Namespace(command=broken)
main._parser = Parser
main.main()
"""


def test_every_command_is_guarded() -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=False)
    assert VALUE not in done.stderr + done.stdout
    assert "error: unexpected ValueError" in done.stderr
