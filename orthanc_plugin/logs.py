"""Logs of the service and the workers, without a single value of a patient.

Our own code logs identifiers and counts. What other libraries log may quote any value: pydicom's texts hold names and
dates of birth, and an exception quotes what it could not convert. So of their records only the logger, the level and
the place in the code are kept, and of an exception only its kind and its frames. A warning of the module `warnings`
and an error that nobody catches are treated alike.

A line is a text or an object of JSON. Both carry the ids of the request, the job, the series and the archive that the
code was about.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from enum import StrEnum
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TextIO

from orthanc_plugin.correlation import current_ids
from orthanc_plugin.errors import EnrichError

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(process)d %(name)s%(about)s: %(message)s"
MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5

_OURS = "orthanc_plugin"
# They log every request with its whole query (QIDO: patient identifiers), or every data element.
_QUIET = ("dbos", "dicomweb_client", "httpcore", "httpx", "highdicom", "pydicom", "pynetdicom", "radiomics", "urllib3")
_CONSTANT_TEXTS = ("urllib3", "uvicorn")
"""They format no text themselves: the text without its arguments holds no value."""

_AGAIN_S = 60.0
_TIME = "%Y-%m-%dT%H:%M:%S"

_log = logging.getLogger(__name__)


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


class CleanRecord(logging.LogRecord):
    """A log record that holds no value of another library and no text of an exception that is not ours."""

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: object,
        exc_info: object,
        func: str | None = None,
        sinfo: str | None = None,
        **more: object,
    ) -> None:
        super().__init__(name, level, pathname, lineno, msg, args, None, func, sinfo)  # type: ignore[arg-type]
        self.ids = current_ids()
        if not _is(name, _OURS):
            self._forget_values()
        elif isinstance(self.args, tuple):
            self.args = tuple(describe(value) if isinstance(value, BaseException) else value for value in self.args)
        error = exc_info[1] if isinstance(exc_info, tuple) else None
        if isinstance(error, BaseException):
            self.exc_text = trace_of(error)

    def _forget_values(self) -> None:
        place = f"{Path(self.pathname or '').name}:{self.lineno}"
        constant = isinstance(self.msg, str) and any(_is(self.name, library) for library in _CONSTANT_TEXTS)
        self.msg = f"{str(self.msg).strip()} ({place})" if constant else f"said something at {place}"
        self.args = ()


def _is(name: str | None, library: str) -> bool:
    return name is not None and (name == library or name.startswith(f"{library}."))


def describe(error: BaseException) -> str:
    """Describe an error in one line: its kind and place. Only our own errors keep their text."""
    if isinstance(error, EnrichError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


def trace_of(error: BaseException) -> str:
    """Write an error and what caused it with all frames, but without texts of errors that are not ours."""
    lines, seen = list[str](), set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        lines.append(f"{'caused by ' if lines else ''}{describe(current)}")
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(current.__traceback__)]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


def guard_process() -> None:
    """Keep values of patients out of all that this process writes outside its results: call it first of all.

    It covers the logs of all libraries, the module `warnings`, errors that nobody catches, and core dumps.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.setLogRecordFactory(CleanRecord)
    warnings.showwarning = _Warnings().show
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _log.critical("a thread ended by %s", _of(args.exc_value, args.exc_type))
    sys.unraisablehook = lambda args: _log.error("an error was ignored: %s", _of(args.exc_value, args.exc_type))


def _uncaught(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    if writes_json_to_stderr():
        _log.critical("ended by an unexpected %s", trace_of(error))
    else:
        sys.stderr.write(f"error: unexpected {trace_of(error)}\n")


def _of(error: BaseException | None, kind: type[BaseException]) -> str:
    return kind.__name__ if error is None else trace_of(error)


class _Warnings:
    """Says once for each place that a warning came from there, whatever its text."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, int]] = set()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Log the kind and the place."""
        place = (category.__name__, Path(filename).name, lineno)
        if place not in self._told:
            self._told.add(place)
            _log.warning("%s at %s:%d; its text is not shown, because it may quote values of a patient", *place)


class _NotAgain(logging.Filter):
    """Lets a line of another library through once a minute: without its values, one is like the next."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is logged."""
        if _is(record.name, _OURS):
            return True
        line = (record.name, record.pathname, record.lineno)
        if record.created - self._last.get(line, 0.0) < _AGAIN_S:
            return False
        self._last[line] = record.created
        return True


class _PrivateRotatingFileHandler(RotatingFileHandler):
    """Opens its files with mode 0600 from the first byte, also after a rotation."""

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, 0o600)  # otherwise an existing file keeps its mode
            return descriptor

        return open(self.baseFilename, "a", encoding="utf-8", opener=private)


class _TextLines(logging.Formatter):
    """One line a record, with the ids that its message does not name."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as text."""
        message = record.getMessage()
        ids = [f"{name}={text}" for name, text in _ids_of(record).items() if text not in message]
        record.about = f" [{' '.join(ids)}]" if ids else ""
        return super().format(record)


class _JsonLines(logging.Formatter):
    """One object of JSON a record: time, level, process, logger, message, ids, and the trace of an error."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as JSON."""
        line = {
            "time": f"{self.formatTime(record, _TIME)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids_of(record),
        }
        return json.dumps(line | ({"error": record.exc_text} if record.exc_text else {}))


def _ids_of(record: logging.LogRecord) -> Mapping[str, str]:
    return record.ids if isinstance(record, CleanRecord) else {}


def writes_json_to_stderr() -> bool:
    """Tell whether stderr is a log of JSON lines, in which no other line may stand."""
    return any(
        isinstance(handler.formatter, _JsonLines) and not isinstance(handler, logging.FileHandler)
        for handler in logging.getLogger().handlers
    )


def configure_logging(path: Path | None, level: int = logging.INFO, form: LogFormat = LogFormat.TEXT) -> None:
    """Send all logs to a file or to stderr. A second call replaces the first.

    Parameters
    ----------
    path : Path or None
        Log file in an existing folder, for this process alone (two processes that rotate it lose lines); None: stderr.
    level : int
        Level of our own loggers; talkative libraries log warnings only.
    form : LogFormat
        How a line is written.
    """
    handler: logging.Handler = (
        _PrivateRotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES)
        if path
        else logging.StreamHandler()
    )
    logging.setLogRecordFactory(CleanRecord)
    handler.setFormatter(_JsonLines() if form is LogFormat.JSON else _TextLines(FORMAT, _TIME))
    handler.addFilter(_NotAgain())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # a peer that goes away is an error there
    _take_over("dbos")


def _take_over(library: str) -> None:
    """Let the lines of a library come here that otherwise writes to stderr by a handler of its own."""
    logger = logging.getLogger(library)
    logger.handlers = [logging.NullHandler()]  # it adds its own only where there is none
    logger.propagate = True
