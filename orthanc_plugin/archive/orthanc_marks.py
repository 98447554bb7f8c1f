"""Mark series in an Orthanc, so that people find a cohort there: by a label, or by metadata where there are no labels.

Labels came with Orthanc 1.12.0. Orthanc Explorer 2 shows and filters them.
"""

from __future__ import annotations

import re
from enum import StrEnum

import httpx

from orthanc_plugin.archive.connection import open_client, told
from orthanc_plugin.archive.orthanc import TIMEOUT
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.domain.uids import check_uids
from orthanc_plugin.errors import ConfigError, StoreError, TransientError

METADATA = 4216
"""Number of the metadata that holds the marks of a series, separated by spaces; numbers from 1024 are the user's."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class MarkKind(StrEnum):
    """How a series was marked."""

    LABEL = "label"
    METADATA = "metadata"


class OrthancMarks:
    """Marks the series of one Orthanc.

    Parameters
    ----------
    name : str
        Key of the archive in the configuration.
    settings : ArchiveSettings
        With the address of Orthanc's REST API.

    Raises
    ------
    ConfigError
        If the archive is not an Orthanc.
    """

    def __init__(self, name: str, settings: ArchiveSettings) -> None:
        if not settings.orthanc_url:
            raise ConfigError(f"archive {name} has no OrthancUrl: only an Orthanc can mark series")
        self._name = name
        self._http = open_client(name, settings, TIMEOUT, settings.orthanc_url)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def kind(self) -> MarkKind:
        """Tell how this Orthanc can mark a series."""
        return MarkKind.LABEL if self._ask("GET", "/system").json().get("HasLabels") else MarkKind.METADATA

    def mark(self, study_uid: str, series_uid: str, mark: str, kind: MarkKind) -> bool:
        """Mark one series, beside the marks that it has; return False if Orthanc lacks the series.

        Raises
        ------
        ConfigError
            If the mark holds other characters than letters, digits, _ and -.
        StoreError
            If Orthanc refuses.
        TransientError
            If Orthanc does not respond.
        """
        if _NAME.fullmatch(mark) is None:
            raise ConfigError("a mark has 1 to 64 letters, digits, _ or -")
        check_uids(study_uid, series_uid)
        query = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        found = self._ask("POST", "/tools/find", json={"Level": "Series", "Query": query}).json()
        for series in found:
            if kind is MarkKind.LABEL:
                self._ask("PUT", f"/series/{series}/labels/{mark}", content=b"")
            else:
                self._add_metadata(f"/series/{series}/metadata/{METADATA}", mark)
        return bool(found)

    def _add_metadata(self, path: str, mark: str) -> None:
        there = self._ask("GET", path, missing=True)
        marks = there.text.split() if there.is_success else []
        if mark not in marks:
            headers = {"If-Match": there.headers["ETag"]} if "ETag" in there.headers else {}
            self._ask("PUT", path, content=" ".join([*marks, mark]).encode(), headers=headers)

    def _ask(self, method: str, path: str, *, missing: bool = False, **arguments: object) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise TransientError(f"archive {self._name}: {told(error)}") from error
        if answer.is_success or (missing and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        if answer.is_server_error:
            raise TransientError(f"archive {self._name} answered {answer.status_code}")
        raise StoreError(
            f"archive {self._name} answered {answer.status_code} to {method} {path.partition('/series')[1]}"
        )
