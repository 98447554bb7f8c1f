"""Orthanc's change feed: the series that changed since a sequence number, and where they came from.

Orthanc loses stable events if it is killed within StableAge, but every stored instance leaves a durable row in
`/changes`. The feed reads those rows and returns each changed series once. It skips rows of deleted resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from orthanc_plugin.archive.connection import open_client, told
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import TransientError
from orthanc_plugin.identity import digest

PAGE = 1000
TIMEOUT = httpx.Timeout(30.0, connect=5.0)

_TOUCHING = frozenset({"NewInstance", "NewSeries", "StableSeries"})


@dataclass(frozen=True, slots=True)
class OrthancSeries:
    """A series in Orthanc's index.

    content: digest of its instance list.
    received: Orthanc's LastUpdate, `YYYYMMDDThhmmss` UTC: the time when its last new instance arrived.
    remote_aet, remote_ip, origin: those of its first instance; empty if Orthanc does not know them.
    """

    orthanc_id: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    content: str
    received: str
    remote_aet: str
    remote_ip: str
    origin: str
    anonymized_from: str
    modified_from: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Series on one page of changes. `last`: sequence number of its last row. `done`: whether it is the newest page."""

    orthanc_series_ids: tuple[str, ...]
    last: int
    done: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """The change after which series count. `read_before`: an earlier service has read up to there."""

    since: int
    read_before: bool


class Feed(Protocol):
    """The list of changes that reconcile reads from an archive (see `OrthancFeed`)."""

    def index(self) -> str:
        """Return the name of the archive's index, which no other has; empty if it does not tell one."""
        ...

    def mark(self) -> Mark | None:
        """Return where a service begins that has no record; None if the archive keeps no such mark."""
        ...

    def last_sequence(self) -> int:
        """Return the sequence number of the newest change."""
        ...

    def changes(self, since: int) -> Changes:
        """Return the series on the next page of changes after `since`."""
        ...

    def series(self, orthanc_id: str) -> OrthancSeries | None:
        """Return one series; None if it is gone."""
        ...

    def lookup(self, study_uid: str, series_uid: str) -> str:
        """Return the archive's own id of a series; empty if it lacks the series."""
        ...

    def listed(self, series_uids: frozenset[str]) -> frozenset[str]:
        """Return those of the SeriesInstanceUIDs that the archive has."""
        ...


def open_feed(name: str, settings: ArchiveSettings) -> OrthancFeed | None:
    """Open the feed of an archive, or return None if it is not an Orthanc."""
    if not settings.orthanc_url:
        return None
    return OrthancFeed(name, settings.orthanc_url, client=open_client(name, settings, TIMEOUT, settings.orthanc_url))


class OrthancFeed:
    """The few routes of Orthanc's REST API that the feed needs.

    Every method raises TransientError if Orthanc does not respond.
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

    def index(self) -> str:
        """Return the name that our plugin keeps in Orthanc's database; empty if this account is not told one."""
        try:
            answer = self._http.get("/enrichment/status")
            status = answer.json() if answer.is_success else None
        except httpx.HTTPError as error:
            raise TransientError(f"archive {self.name}: {told(error)}") from error
        except ValueError:  # a page of a proxy
            return ""
        return str(status.get("index") or "") if isinstance(status, dict) else ""

    def mark(self) -> Mark | None:
        """Return the mark that our plugin keeps in Orthanc's database; None without the plugin."""
        status = self._get("/enrichment/status")
        if status is None or "changes" not in status:
            return None
        kept = status["changes"]
        if not isinstance(kept, dict):
            raise TransientError(f"archive {self.name} does not say yet from which change series count")
        return Mark(int(kept["since"]), bool(kept["read_before"]))

    def last_sequence(self) -> int:
        """Return the sequence number of the newest change."""
        return int(str(self._object("/changes?last").get("Last", 0)))

    def changes(self, since: int) -> Changes:
        """Return the series on the next page of changes after `since`."""
        page = self._object(f"/changes?since={since}&limit={PAGE}")
        return Changes(self._series_of(_objects(page["Changes"])), int(str(page["Last"])), bool(page["Done"]))

    def series(self, orthanc_id: str) -> OrthancSeries | None:
        """Return one series; None if it is gone."""
        found, metadata = self._get(f"/series/{orthanc_id}"), self._get(f"/series/{orthanc_id}/metadata?expand")
        study = self._get(f"/series/{orthanc_id}/study")
        if found is None or metadata is None or study is None:
            self._object("/system")  # at a wrong address everything is "not found"
            return None
        instances = sorted(_strings(found.get("Instances")))
        source = self._get(f"/instances/{instances[0]}/metadata?expand") if instances else None
        return _series(orthanc_id, found, study, metadata, instances, source or {})

    def lookup(self, study_uid: str, series_uid: str) -> str:
        """Return Orthanc's id of a series; empty if Orthanc lacks the series."""
        query = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        return next(iter(_strings(self._find({"Level": "Series", "Query": query}))), "")

    def listed(self, series_uids: frozenset[str]) -> frozenset[str]:
        """Return those of the SeriesInstanceUIDs that Orthanc has."""
        if not series_uids:
            return frozenset()
        query = {"SeriesInstanceUID": "\\".join(sorted(series_uids))}
        series = _objects(self._find({"Level": "Series", "Query": query, "Expand": True}))
        return frozenset(_tag(one, "SeriesInstanceUID") for one in series)

    def _find(self, query: Mapping[str, object]) -> object:
        found = self._request("POST", "/tools/find", query)
        if found is None:
            raise TransientError(f"archive {self.name} has no /tools/find; check its OrthancUrl")
        return found

    def _series_of(self, rows: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
        """Return the series of the changed instances, with one request per series."""
        touched: dict[str, None] = {}
        known: set[str] = set()
        for row in rows:
            if row["ChangeType"] not in _TOUCHING:
                continue
            if row["ResourceType"] == "Series":
                touched[str(row["ID"])] = None
            elif row["ID"] not in known and (series := self._get(f"/instances/{row['ID']}/series")) is not None:
                touched[str(series["ID"])] = None
                known.update(_strings(series.get("Instances")))
        return tuple(touched)

    def _object(self, path: str) -> Mapping[str, object]:
        found = self._get(path)
        if found is None:
            raise TransientError(f"archive {self.name} has no {path.split('?')[0]}; check its OrthancUrl")
        return found

    def _get(self, path: str) -> Mapping[str, object] | None:
        found = self._request("GET", path)
        if found is not None and not isinstance(found, dict):
            raise TransientError(f"archive {self.name} is not an Orthanc")
        return found

    def _request(self, method: str, path: str, body: object = None) -> object:
        """Return the answer as JSON; None for a missing resource."""
        try:
            answer = self._http.request(method, path, json=body) if body else self._http.request(method, path)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            return answer.raise_for_status().json()
        except httpx.HTTPStatusError as error:
            raise TransientError(f"archive {self.name} answered {error.response.status_code}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise TransientError(f"archive {self.name}: {told(error)}") from error


def _series(
    orthanc_id: str,
    series: Mapping[str, object],
    study: Mapping[str, object],
    metadata: Mapping[str, object],
    instances: list[str],
    source: Mapping[str, object],
) -> OrthancSeries:
    def known(key: str) -> str:
        return str(source.get(key) or metadata.get(key) or "")

    return OrthancSeries(
        orthanc_id=orthanc_id,
        study_instance_uid=_tag(study, "StudyInstanceUID"),
        series_instance_uid=_tag(series, "SeriesInstanceUID"),
        modality=_tag(series, "Modality"),
        content=digest(instances),
        received=str(metadata.get("LastUpdate", "")),
        remote_aet=known("RemoteAET"),
        remote_ip=known("RemoteIP"),
        origin=known("Origin"),
        anonymized_from=str(metadata.get("AnonymizedFrom", "")),
        modified_from=str(metadata.get("ModifiedFrom", "")),
    )


def _tag(resource: Mapping[str, object], keyword: str) -> str:
    tags = resource.get("MainDicomTags")
    return str(tags.get(keyword, "")) if isinstance(tags, dict) else ""


def _objects(values: object) -> list[Mapping[str, object]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _strings(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []
