"""A hint: somebody says that a series is worth a look. It may come often, late or never; the ledger makes it one."""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.domain.json_record import JsonRecord

WAITING = "waiting:"
"""Begin of the keys of the ledger's notes that are hints."""


@dataclass(frozen=True, slots=True)
class Hint(JsonRecord):
    """A series, and what only its Orthanc knows of it.

    archive: name in the configuration.
    stable: Orthanc saw no new instance for StableAge.
    """

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    orthanc_series_id: str = ""
    stable: bool = False
    remote_aet: str = ""
    remote_ip: str = ""
    origin: str = ""
    anonymized_from: str = ""
    modified_from: str = ""

    @property
    def key(self) -> str:
        """Of the note under which it waits; one a series."""
        series = self.orthanc_series_id or f"{self.study_instance_uid}:{self.series_instance_uid}"
        return f"{WAITING}{self.archive}:{series}"
