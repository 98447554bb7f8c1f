"""What the audit log records of one act. It holds UIDs and no other value of a patient."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from orthanc_plugin.domain.uids import is_uid


class What(StrEnum):
    """Kind of an act. The value is a stable code."""

    START = "start"
    STOP = "stop"
    LOGIN = "login"
    DENIED = "denied"
    VIEW = "view"
    SEARCH = "search"
    EXPORT = "export"
    PATIENT = "patient"
    ACT = "act"
    STORE = "store"
    DELETE = "delete"
    SETTINGS = "settings"
    AUDIT = "audit"


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    FAILURE = "failure"


MOST_SERIES = 100
"""Series that one event names; a message of more would be too long for a syslog server."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an act is about, as far as known. more: number of further series. detail: words of our own."""

    archive: str = ""
    study: str = ""
    series: tuple[str, ...] = ()
    job: str = ""
    more: int = 0
    detail: str = ""


def subject(
    *series: str, study: str = "", archive: str = "", job: str = "", detail: str = "", count: int = 0
) -> Subject:
    """Say what an act is about; texts that are no UIDs are left out. count: number of series, if only that is known."""
    known = tuple(uid for uid in series if is_uid(uid))
    more = max(len(known), count) - len(known[:MOST_SERIES])
    return Subject(archive, study if is_uid(study) else "", known[:MOST_SERIES], job, max(0, more), detail)


@dataclass(frozen=True, slots=True)
class Event:
    """One act.

    who, way, address: the caller, how it proved who it is, and where it called from.
    detail: what exactly, in a few words of our own.
    archive, study, series, job: what it was done to, as far as known. more: number of further series.
    """

    at: datetime
    what: What
    who: str
    way: str = ""
    address: str = ""
    outcome: Outcome = Outcome.SUCCESS
    detail: str = ""
    archive: str = ""
    study: str = ""
    series: tuple[str, ...] = ()
    job: str = ""
    more: int = 0

    def record(self) -> dict[str, object]:
        """Return the fields that say something, as JSON can hold them."""
        fields = {name: value for name, value in asdict(self).items() if value not in ("", (), 0)}
        return fields | {"at": self.at.isoformat(timespec="milliseconds")}


def event_of(record: dict[str, object]) -> Event:
    """Read what `Event.record` wrote; raise ValueError, KeyError or TypeError for anything else."""
    known = {name: value for name, value in record.items() if name in Event.__dataclass_fields__}
    series = known.get("series", ())
    if not isinstance(series, list | tuple):
        raise TypeError("series")
    return Event(**(known | {  # type: ignore[arg-type]
        "at": datetime.fromisoformat(str(known["at"])), "what": What(str(known["what"])),
        "outcome": Outcome(str(known.get("outcome", Outcome.SUCCESS))), "series": tuple(map(str, series)),
    }))  # fmt: skip
