"""Ask an archive what the service needs of it, and say which address, node or folder does not give it.

"Not found" says nothing about a series if the address is wrong: Orthanc answers 404, 204 or `[]` there. So one instance
is looked up in Orthanc's index, by QIDO-RS and by WADO-RS.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from orthanc_plugin.archive.association import Node
from orthanc_plugin.archive.connection import open_client, told
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import ConfigError, NotSupportedError, TransientError

TIMEOUT_S = 5.0
_DICOM_JSON = {"Accept": "application/dicom+json"}
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"


class _Wrong(Exception):
    """What is wrong with which address."""


def find_problem(name: str, settings: ArchiveSettings) -> str:
    """Ask an archive by C-ECHO, a folder whether it can be used, and DICOMweb for one instance and its metadata.

    If the archive is an Orthanc, its index is asked first.

    Returns
    -------
    str
        What is wrong, with the address; empty if nothing is.
    """
    try:
        if settings.dimse is not None:
            Node(name, settings, settings.dimse).echo()
        elif settings.folder is not None:
            _examine_folder(settings.folder)
        else:
            with open_client(name, settings, TIMEOUT_S) as client:
                client.headers.update(_DICOM_JSON)
                _examine(client, settings.url, settings.orthanc_url)
    except (_Wrong, TransientError, NotSupportedError, ConfigError) as problem:
        return str(problem)
    return ""


def read_version(name: str, settings: ArchiveSettings) -> str:
    """Return the version that an Orthanc says it has; empty if it is not an Orthanc, or does not say."""
    if not settings.orthanc_url:
        return ""
    try:
        with open_client(name, settings, TIMEOUT_S) as client:
            answer = _ask(client, f"{settings.orthanc_url}/system")
    except (_Wrong, ConfigError):
        return ""
    version = answer.get("Version") if isinstance(answer, Mapping) else None
    return version if isinstance(version, str) else ""


def _examine_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise _Wrong(f"the folder {folder} is not there; is it mounted?")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _Wrong(f"the folder {folder} cannot be read and written by this user")


def _examine(client: httpx.Client, url: str, orthanc_url: str) -> None:
    held = _held_by_orthanc(client, f"{orthanc_url}/statistics") if orthanc_url else 0
    search = f"{url}/instances?limit=1"
    listed = _ask(client, search)
    if not isinstance(listed, list):
        raise _Wrong(f"{search} did not answer in DICOM JSON")
    if not listed and held:
        raise _Wrong(f"{search} lists nothing, but Orthanc holds {held} instances")
    uids = [_value(listed[0], tag) for tag in (_STUDY, _SERIES, _INSTANCE)] if listed else []
    if uids and all(map(is_uid, uids)):
        study, series, instance = uids
        metadata = f"{url}/studies/{study}/series/{series}/instances/{instance}/metadata"
        if not _ask(client, metadata):
            raise _Wrong(f"{metadata} is empty")


def _held_by_orthanc(client: httpx.Client, address: str) -> int:
    answer = _ask(client, address)
    if not isinstance(answer, dict) or "CountInstances" not in answer:
        raise _Wrong(f"{address} did not answer as an Orthanc does")
    return int(answer["CountInstances"])


def _ask(client: httpx.Client, address: str) -> object:
    """Return the answer as JSON; an empty list for 204."""
    try:
        answer = client.get(address)
        if not answer.is_success:
            raise _Wrong(f"{address} answered {answer.status_code}")
        return answer.json() if answer.content else []
    except httpx.HTTPError as error:
        raise _Wrong(f"{address}: {told(error)}") from None
    except ValueError:
        raise _Wrong(f"{address} did not answer in JSON") from None


def _value(item: object, tag: str) -> str:
    """Return the first value of an attribute in the DICOM JSON model (PS3.18 F.2)."""
    element = item.get(tag) if isinstance(item, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if isinstance(values, list) and values else ""
