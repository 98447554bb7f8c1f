"""Withdrawal: remove results that no longer count from one archive, because newer ones or no source are there."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.archive.removal import OrthancRemoval
from orthanc_plugin.domain.job import OPEN_STATES, EnrichJob, JobState
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import StoredObject
from orthanc_plugin.errors import EnrichError, Refusal, RefusedError
from orthanc_plugin.jobs.deliveries import Deliveries
from orthanc_plugin.jobs.engine import WITHDRAW
from orthanc_plugin.jobs.ledger import Decision, Ledger
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.results.rejection import encode_rejection


@dataclass(frozen=True, slots=True)
class Withdrawal(JsonRecord):
    """The objects to remove from `archive`, the name of an archive.

    unless_series: they stay where the archive holds this series, which they were made of; empty: wherever it is.
    of_masks: reports on masks that are gone; they go although the job that made them counts.
    """

    archive: str
    objects: tuple[StoredObject, ...]
    unless_series: str = ""
    of_masks: Annotated[bool, Field(exclude_if=operator.not_)] = False


@dataclass(frozen=True, slots=True)
class Rejecting:
    """Archives that honour a rejection note, by name, and the time that a note carries."""

    archives: Mapping[str, Archive]
    clock: Callable[[], datetime]

    def reject(self, withdrawal: Withdrawal) -> int:
        """Store one note on all objects that the archive still shows, and return their number.

        Raises
        ------
        RefusedError
            If the archive has an object of somebody else under one of the UIDs.
        StoreError, TransientError
            If the archive refuses the note, or does not respond.
        """
        archive = self.archives[withdrawal.archive]
        places = [(o.study_instance_uid, o.series_instance_uid, o.sop_instance_uid) for o in withdrawal.objects]
        shown = [ds for place in places if (ds := archive.find(*place)) is not None]
        if strange := [str(ds.SOPInstanceUID) for ds in shown if ds.get("Manufacturer") != MANUFACTURER]:
            raise RefusedError(f"archive {withdrawal.archive} has another object under {', '.join(strange)}; it stays")
        if shown:
            archive.store(encode_rejection(shown, self.clock()))
        return len(shown)


def withdraw(removals: Mapping[str, OrthancRemoval], withdrawal: Withdrawal, rejecting: Rejecting) -> int:
    """Remove the objects that the archive still has, or reject them where it honours that.

    Returns
    -------
    int
        Number of objects removed or rejected.

    Raises
    ------
    EnrichError
        If the archive is not an Orthanc and honours no rejection note; the message names what is still there.
    RefusedError
        If the archive refuses, or has another object under one of the UIDs.
    TransientError
        If the archive does not respond.
    """
    if withdrawal.archive in rejecting.archives:
        return rejecting.reject(withdrawal)
    removal = removals.get(withdrawal.archive)
    if removal is None:
        left = ", ".join(item.sop_instance_uid for item in withdrawal.objects)
        raise EnrichError(
            f"archive {withdrawal.archive} is not an Orthanc: remove there by hand what is outdated: {left}"
        )
    removed, refused = 0, []
    for item in withdrawal.objects:
        try:
            removed += removal.remove(
                item.study_instance_uid, item.series_instance_uid, item.sop_instance_uid, MANUFACTURER
            )
        except RefusedError as error:  # the others are removed all the same
            refused.append(str(error))
    if refused:
        raise RefusedError("; ".join(refused))
    return removed


def outdated_of(rows: Sequence[Decision]) -> tuple[Decision, ...]:
    """Return the jobs whose results no longer count, given all decisions on a series, oldest first.

    The results of a content count until those of a later content are all stored.
    """
    last = max((place for place, row in enumerate(rows) if row.state is JobState.DONE), default=0)
    return tuple(row for row in rows[:last] if row.superseded_by and row.state not in OPEN_STATES)


def withdrawals_of(outdated: Decision, *, without_source: bool = False) -> tuple[Withdrawal, ...]:
    """Return what is to be withdrawn of a job whose results no longer count: from its home and its destinations.

    without_source: only from those archives that do not hold the series.
    """
    if not outdated.summary.objects:
        return ()
    plan = EnrichJob.from_json(outdated.argument).plan
    archives = dict.fromkeys((plan.home_archive, *plan.destinations))
    series = outdated.series_instance_uid if without_source else ""
    objects, instead = outdated.summary.objects, outdated.summary.instead
    there = {archive: objects if archive == plan.home_archive else (*objects, *instead) for archive in archives}
    return tuple(Withdrawal(archive, there[archive], series) for archive in archives)


class Withdrawals:
    """Queues the withdrawal of what jobs stored.

    Parameters
    ----------
    ledger : Ledger
        Names what each job stored.
    deliveries : Deliveries
        Takes a withdrawal for each archive.
    """

    def __init__(self, ledger: Ledger, deliveries: Deliveries) -> None:
        self._ledger, self._deliveries = ledger, deliveries

    def add(self, row: Decision, *, without_source: bool = False) -> None:
        """Queue the withdrawal of what a job stored, from its home and its destinations."""
        for withdrawal in withdrawals_of(row, without_source=without_source):
            argument = withdrawal.to_json()
            self._deliveries.add(row.job_id, withdrawal.archive, argument, WITHDRAW, run=row.started_at)

    def of_masks(self, row: Decision, reports: Mapping[StoredObject, str]) -> None:
        """Queue the withdrawal of reports on masks that were deleted, and let the job no longer name them.

        Parameters
        ----------
        row : Decision
            The job, in the run that found that the masks are gone.
        reports : mapping
            Each report, and the series of its masks: where another archive holds that, the report stays.
        """
        plan = EnrichJob.from_json(row.argument).plan
        # The reports are those of an earlier run: what this run made is copied and stays.
        before = None if row.started_at is None else row.started_at - timedelta(microseconds=1)
        for item, series in reports.items():
            for archive in dict.fromkeys((plan.home_archive, *plan.destinations)):
                kept_by = "" if archive == row.archive else series
                argument = Withdrawal(archive, (item,), kept_by, of_masks=True).to_json()
                self._deliveries.add(row.job_id, archive, argument, WITHDRAW, run=before)
            self._ledger.drop_object(row.job_id, item)

    def of_deleted(self, job_id: str) -> bool:
        """Queue the withdrawal of what an ended job stored whose series was deleted; return False if it is open."""
        self._ledger.lose_source(job_id, "the series was deleted after the job; its results are withdrawn")
        row = self._ledger.of_job(job_id)
        if row is None or row.reason != Refusal.GONE:
            return False
        self.add(row, without_source=True)
        return True

    def of_leftovers(self, job_id: str) -> None:
        """Queue the withdrawal of what a job had stored that failed, was cancelled or was skipped.

        Raises
        ------
        EnrichError
            If there is no such job, its results count, or it has stored nothing.
        """
        row = self._ledger.of_job(job_id)
        if row is None:
            raise EnrichError(f"there is no job {job_id}")
        if row.state in OPEN_STATES or self._ledger.still_counts(row.job_id):
            raise EnrichError(f"job {row.job_id} is {row.state}: its results count, and stay")
        if not row.summary.objects:
            raise EnrichError(f"job {row.job_id} has stored nothing")
        self.add(row)
