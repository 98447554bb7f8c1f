"""Remove results of ours from an Orthanc, by its REST API: DICOMweb has no request for that.

An object is removed only if its identifiers and its manufacturer are those of the result.
"""

from __future__ import annotations

import httpx

from orthanc_plugin.archive.connection import open_client, told
from orthanc_plugin.archive.orthanc import TIMEOUT
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import RefusedError, TransientError

_TAGS = ("0020-000d", "0020-000e", "0008-0018", "0008-0070")
"""StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, Manufacturer."""

_LATER = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)


def open_removal(name: str, settings: ArchiveSettings) -> OrthancRemoval | None:
    """Open an archive for removals, or return None if it is not an Orthanc."""
    if not settings.orthanc_url:
        return None
    return OrthancRemoval(name, settings.orthanc_url, client=open_client(name, settings, TIMEOUT, settings.orthanc_url))


class OrthancRemoval:
    """Removes instances from an Orthanc.

    Parameters
    ----------
    name : str
        Key of the archive in the configuration.
    url : str
        Orthanc's REST root.
    user, password : str
        For HTTP Basic authentication. An empty `user` means no authentication.
    """

    def __init__(
        self, name: str, url: str, user: str = "", password: str = "", client: httpx.Client | None = None
    ) -> None:
        self.name = name
        auth = httpx.BasicAuth(user, password) if user else None
        self._http = client or httpx.Client(base_url=url.rstrip("/"), auth=auth, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def remove(self, study_uid: str, series_uid: str, sop_uid: str, manufacturer: str) -> bool:
        """Remove one instance.

        Returns
        -------
        bool
            False if the archive does not have it.

        Raises
        ------
        RefusedError
            If the archive has another object under this UID, or removes nothing for this account.
        TransientError
            If the archive does not respond.
        """
        found = self._ask("POST", "/tools/lookup", sop_uid)
        instances = [str(item["ID"]) for item in found.json() if item.get("Type") == "Instance"] if found else []
        for orthanc_id in instances:
            if self._tags(orthanc_id) != (study_uid, series_uid, sop_uid, manufacturer):
                raise RefusedError(f"archive {self.name} has another object under {sop_uid}; it stays")
            self._ask("DELETE", f"/instances/{orthanc_id}")
        return bool(instances)

    def _tags(self, orthanc_id: str) -> tuple[str, ...]:
        answers = (self._ask("GET", f"/instances/{orthanc_id}/content/{tag}") for tag in _TAGS)
        return tuple(answer.text.strip("\0 ") if answer else "" for answer in answers)

    def _ask(self, method: str, path: str, body: str | None = None) -> httpx.Response | None:
        """Return the answer; None for a missing resource."""
        try:
            answer = self._http.request(method, path, content=body)
        except httpx.HTTPError as error:
            raise TransientError(f"archive {self.name}: {told(error)}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_server_error or answer.status_code in _LATER:
            raise TransientError(f"archive {self.name} answered {answer.status_code}")
        if answer.is_error:
            raise RefusedError(
                f"archive {self.name} answered {answer.status_code}: it removes nothing for this account"
            )
        return answer
