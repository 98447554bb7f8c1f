"""Hints that a series may be new. A hint may come often, late or never; the ledger keeps one for each series."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from orthanc_plugin.archive.orthanc import OrthancSeries
from orthanc_plugin.domain.json_record import JsonRecord

WAITING = "waiting:"
"""Prefix of the ledger's notes that are hints."""


@dataclass(frozen=True, slots=True)
class Hint(JsonRecord):
    """A series, and what only its Orthanc knows about it.

    archive: name of the archive in the configuration.
    stable: Orthanc received no new instance for StableAge.
    order: id of the backfill that asks for the series; empty for new ones.
    again: a content that was decided on before is decided on again, by the current rules.
    cancelled_too: also if a person cancelled its job.
    remote_aet, remote_ip, origin, anonymized_from, modified_from: Orthanc's metadata of the same names.
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
    order: Annotated[str, Field(exclude_if=operator.not_)] = ""
    again: Annotated[bool, Field(exclude_if=operator.not_)] = False
    cancelled_too: Annotated[bool, Field(exclude_if=operator.not_)] = False

    @property
    def key(self) -> str:
        """Key of the note that holds the hint in the ledger; one for each series."""
        series = self.orthanc_series_id or f"{self.study_instance_uid}:{self.series_instance_uid}"
        return f"{WAITING}{self.archive}:{series}"


def completed(hint: Hint, found: OrthancSeries) -> Hint:
    """Add what Orthanc's index knows to a hint; where the hint has a value, it is newer than the index."""
    return replace(
        hint,
        study_instance_uid=found.study_instance_uid,
        series_instance_uid=found.series_instance_uid,
        orthanc_series_id=found.orthanc_id,
        remote_aet=hint.remote_aet or found.remote_aet,
        remote_ip=hint.remote_ip or found.remote_ip,
        origin=hint.origin or found.origin,
        anonymized_from=hint.anonymized_from or found.anonymized_from,
        modified_from=hint.modified_from or found.modified_from,
    )
