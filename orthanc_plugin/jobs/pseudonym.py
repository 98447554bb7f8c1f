"""What tables call a patient: a keyed hash of PatientID, PatientID itself, or nothing.

A hash without a key would tell who is meant: PatientIDs are few, so all of them can be tried. The key is a setting, or
it is made once and kept in the state directory.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from orthanc_plugin.config.sections import Configuration, PatientColumn

KEY_FILE = "pseudonym.key"
_DIGITS = 16

logger = logging.getLogger(__name__)


def patient_column(configuration: Configuration) -> Callable[[str], str]:
    """Return what turns a PatientID into what the tables of this configuration hold.

    Without a key, and without a state directory that could hold one, there is no pseudonym: the column is then empty.
    """
    tables = configuration.tables
    if tables.patient is PatientColumn.ID:
        return str
    if tables.patient is PatientColumn.NONE:
        return lambda patient_id: ""

    @cache
    def key() -> bytes:
        return tables.key.get_secret_value().encode() or _kept_key(configuration.state_directory)

    return lambda patient_id: pseudonym(key(), patient_id) if patient_id and key() else ""


def pseudonym(key: bytes, patient_id: str) -> str:
    """Hash a PatientID with a key: HMAC-SHA256, of which the first 16 hexadecimal digits count."""
    return hmac.new(key, patient_id.strip().encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def _kept_key(directory: Path) -> bytes:
    """Return the key of the state directory, which the first caller makes; empty if there is no such directory."""
    file = directory / KEY_FILE
    try:
        if not file.exists():
            with tempfile.NamedTemporaryFile(dir=directory) as made:  # of mode 0600
                made.write(secrets.token_hex(32).encode())
                made.flush()
                with suppress(FileExistsError):  # another process was faster
                    os.link(made.name, file)
        return file.read_bytes()
    except OSError as error:
        logger.info("tables hold no pseudonyms: %s cannot be used (%s); set Tables.Key", file, error.strerror)
        return b""
