"""The commands of `orthanc-enrich jobs`: they list, show and retry jobs, and print what a job measured."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from orthanc_plugin.cli.desk import Commands, Desk

if TYPE_CHECKING:
    from orthanc_plugin.domain.job import JobState
    from orthanc_plugin.jobs.queue import JobQueue


def add_commands(commands: Commands) -> None:
    """Add `list`, `show`, `retry` and `radiomics`."""
    listing = commands.add("list", list_jobs, "list jobs, newest first")
    listing.add_argument(
        "--state", type=_job_state, help="only jobs in this state; skipped: also the series that no rule takes"
    )
    listing.add_argument("--limit", type=int, default=50, help="at most so many jobs (default: 50)")
    for name, command, text in (
        ("show", show_job, "show one job with its stages and objects, as JSON"),
        ("retry", retry_job, "run a job again that ended"),
        ("radiomics", print_radiomics, "print the numbers of a job's radiomics reports as CSV (--json: as JSON)"),
    ):
        commands.add(name, command, text).add_argument("job", help="id of the job")


def _job_state(text: str) -> JobState:
    from orthanc_plugin.domain.job import JobState

    if text not in list(JobState):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(JobState)}")
    return JobState(text)


def _queue(desk: Desk) -> JobQueue:
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    check_database(desk.configuration)
    return JobQueue(desk.configuration.database)


def list_jobs(desk: Desk) -> None:
    """List jobs, newest first."""
    state = desk.options.state
    jobs = _queue(desk).list(state=state, limit=desk.options.limit, without_job=state == "skipped")
    if desk.options.json:
        desk.print_json([dataclasses.asdict(job) for job in jobs])
        return
    for job in jobs:  # not a table, which would cut the ids that `jobs show` needs
        desk.console.print(f"{job.id or 'no job:'} [bold]{job.state}[/bold]", soft_wrap=True)
        desk.console.print(
            f"  rule {job.rule or 'none'}, series {job.series_instance_uid}, {job.created_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        if job.error:
            desk.console.print(f"  {job.error}", soft_wrap=True, markup=False)


def show_job(desk: Desk) -> None:
    """Show one job as JSON."""
    desk.print_json(dataclasses.asdict(_queue(desk).show(desk.options.job)))


def retry_job(desk: Desk) -> None:
    """Run a job again that ended."""
    _queue(desk).retry(desk.options.job)
    desk.say({"retried": desk.options.job})


def print_radiomics(desk: Desk) -> None:
    """Print the numbers of a job's radiomics reports."""
    from orthanc_plugin.jobs.numbers import StoredResults
    from orthanc_plugin.results.sr.radiomics_table import to_csv, to_json

    rows = StoredResults(_queue(desk), desk.configuration.archives).radiomics(desk.options.job)
    print((to_json if desk.options.json else to_csv)(rows).rstrip("\n"))
