"""What is forgotten of an old job: its measurements, checks, messages and runs.

UIDs, state, reason and the names of its stored objects stay: without them its results would be made twice, or could not
be withdrawn.
"""

from __future__ import annotations

from datetime import datetime

from orthanc_plugin.jobs.queue import JobQueue

_AT_ONCE = 200


def forget_old(queue: JobQueue, before: datetime) -> int:
    """Forget the details of all jobs and decisions that ended before a time; return how many."""
    count = 0
    while rows := queue.ledger.with_details(before, _AT_ONCE):
        for row in rows:
            if row.job_id:
                queue.deliveries.forget_runs(row.job_id)
            queue.ledger.forget_details(row)
        count += len(rows)
    return count
