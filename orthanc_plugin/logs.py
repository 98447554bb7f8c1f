"""Logs of the service and of the workers: one rotating file that only its owner reads, or stderr.

What is logged are identifiers and counts, never headers: the callers keep to that. Here the libraries are kept quiet
that would log addresses with patient identifiers in their query.
"""

from __future__ import annotations

import logging
import os
import time
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(process)d %(name)s: %(message)s"
MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5

# They log each request with its whole query (QIDO: patient identifiers), or each data element.
_QUIET = ("dbos", "dicomweb_client", "httpcore", "httpx", "highdicom", "pydicom", "pynetdicom", "radiomics", "urllib3")


class _PrivateRotatingFileHandler(RotatingFileHandler):
    """Opens its files with mode 0600 from the first byte on, also after a rotation."""

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, 0o600)  # a file that was there before keeps its mode otherwise
            return descriptor

        return open(self.baseFilename, "a", encoding="utf-8", opener=private)


def configure_logging(path: Path | None, level: int = logging.INFO) -> None:
    """Send all logs to a file, or to stderr; a second call replaces the first.

    Parameters
    ----------
    path : Path or None
        Log file in an existing folder, one a process (rotation by two processes would lose lines); None for stderr.
    level : int
        Of our own loggers; libraries that talk much say warnings only.
    """
    handler: logging.Handler = (
        _PrivateRotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES)
        if path
        else logging.StreamHandler()
    )
    formatter = logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
