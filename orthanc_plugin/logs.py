"""Logs of the service and the workers: one rotating file that only its owner can read, or stderr.

Our own code logs identifiers and counts, never headers. This module silences the libraries that would log addresses
with patient identifiers in the query.
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

# They log every request with its whole query (QIDO: patient identifiers), or every data element.
_QUIET = ("dbos", "dicomweb_client", "httpcore", "httpx", "highdicom", "pydicom", "pynetdicom", "radiomics", "urllib3")


class _PrivateRotatingFileHandler(RotatingFileHandler):
    """Opens its files with mode 0600 from the first byte, also after a rotation."""

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, 0o600)  # otherwise an existing file keeps its mode
            return descriptor

        return open(self.baseFilename, "a", encoding="utf-8", opener=private)


def configure_logging(path: Path | None, level: int = logging.INFO) -> None:
    """Send all logs to a file or to stderr. A second call replaces the first.

    Parameters
    ----------
    path : Path or None
        Log file in an existing folder, for this process alone (two processes that rotate it lose lines); None: stderr.
    level : int
        Level of our own loggers; talkative libraries log warnings only.
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
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its errors may quote what a peer sends
