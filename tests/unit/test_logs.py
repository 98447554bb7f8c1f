"""Logs go to one private rotating file, and talkative libraries are quiet."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orthanc_plugin import logs
from orthanc_plugin.correlation import CarryingPool, about, current_ids
from orthanc_plugin.errors import TransientError


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)  # a forced set-up would close those of pytest
    dbos = logging.getLogger("dbos")
    of_dbos = list(dbos.handlers), dbos.propagate
    yield
    dbos.handlers, dbos.propagate = of_dbos
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


REQUEST = "0123456789abcdef0123456789abcdef"
JOB = "ab" * 32


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_json_line_has_time_level_process_logger_message_and_ids(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log", form=logs.LogFormat.JSON)
    with about(job=JOB, series="1.2.3", archive="local"), about(request=REQUEST):
        logging.getLogger("orthanc_plugin.jobs").info("job %s\ndone", 7)
    (line,) = lines_of(tmp_path / "service.log")
    assert datetime.fromisoformat(str(line.pop("time"))).utcoffset() == timedelta(0)
    assert line == {
        "level": "INFO",
        "process": os.getpid(),
        "logger": "orthanc_plugin.jobs",
        "message": "job 7\ndone",
        "job": JOB,
        "series": "1.2.3",
        "archive": "local",
        "request": REQUEST,
    }


def test_a_line_of_text_names_the_ids_that_its_message_does_not(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log")
    with about(job=JOB, series="1.2.3"):
        logging.getLogger("orthanc_plugin.jobs").info("job %s done", JOB)
    logging.getLogger("orthanc_plugin.jobs").info("bare")
    first, second = (tmp_path / "service.log").read_text().splitlines()
    assert first.endswith(f" orthanc_plugin.jobs [series=1.2.3]: job {JOB} done")
    assert second.endswith(" orthanc_plugin.jobs: bare")


@pytest.mark.parametrize("form", logs.LogFormat)
def test_what_is_not_written_as_an_id_is_left_out(tmp_path: Path, form: logs.LogFormat) -> None:
    logs.configure_logging(tmp_path / "service.log", form=form)
    with about(request="Mustermann", job=VALUE, series="1.2\nforged", archive="Planted Name"):
        logging.getLogger("orthanc_plugin").info("said")
    text = (tmp_path / "service.log").read_text()
    assert len(text.splitlines()) == 1
    assert not [value for value in ("Muster", VALUE, "forged", "Planted") if value in text]


def test_json_lines_hold_no_value_of_another_library_and_no_text_of_its_errors(tmp_path: Path) -> None:
    logs.configure_logging(tmp_path / "service.log", form=logs.LogFormat.JSON)
    logging.getLogger("pydicom").warning("Invalid value %s", VALUE)
    try:
        int(VALUE)
    except ValueError:
        logging.getLogger("orthanc_plugin").exception("failed")
    assert VALUE not in (tmp_path / "service.log").read_text()
    assert str(lines_of(tmp_path / "service.log")[1]["error"]).startswith("ValueError at test_logs.py:")


def test_a_library_with_a_handler_of_its_own_writes_to_our_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging(tmp_path / "service.log", form=logs.LogFormat.JSON)
    from dbos._logger import init_logger

    init_logger()
    logging.getLogger("dbos").error("Invalid value %s", VALUE)
    assert capsys.readouterr().err == ""
    assert [line["logger"] for line in lines_of(tmp_path / "service.log")] == ["dbos"]


def test_ids_go_with_the_tasks_of_a_pool_and_not_with_its_threads() -> None:
    with CarryingPool(1) as pool:
        with about(job=JOB):
            assert list(pool.map(lambda _: dict(current_ids()), range(2))) == [{"job": JOB}] * 2
        assert pool.submit(current_ids).result() == {}
    assert current_ids() == {}


UNCAUGHT = """
import sys
sys.argv = ["orthanc-enrich"]
from orthanc_plugin import logs
logs.guard_process()
logs.configure_logging(None, form=logs.LogFormat.JSON)
raise RuntimeError("Planted^Name")
"""


def test_what_ends_a_process_is_a_json_line_too() -> None:
    done = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert done.returncode == 1
    assert line["level"] == "CRITICAL"
    assert line["message"].startswith("ended by an unexpected RuntimeError")
    assert "Planted" not in done.stderr
