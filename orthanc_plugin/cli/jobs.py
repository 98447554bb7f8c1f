"""The commands of `orthanc-enrich jobs`: list jobs, act on them and on the queue, print what a job measured."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import MOST_SERIES, What
from orthanc_plugin.cli.desk import Commands, Desk, count
from orthanc_plugin.cli.filters import add_filters, search_for

if TYPE_CHECKING:
    from orthanc_plugin.domain.job import JobState
    from orthanc_plugin.jobs.queue import JobQueue


def add_commands(commands: Commands) -> None:
    """Add the commands on one job, on deliveries and on the queue."""
    listing = commands.add("list", list_jobs, "list jobs, newest first")
    add_filters(listing)
    listing.add_argument("--offset", type=count, default=0, help="jobs to leave out at the start (default: 0)")
    listing.add_argument("--limit", type=count, default=50, help="at most so many jobs (default: 50)")
    for name, command, text in (
        ("show", show_job, "show one job with its stages and objects, as JSON"),
        ("retry", retry_job, "run a job again that ended or is stuck, with its deliveries that failed"),
        ("cancel", cancel_job, "end an open job within seconds (--to: only its delivery to one destination)"),
        ("withdraw", withdraw_job, "withdraw what a job had stored that failed, was cancelled or was skipped"),
        ("radiomics", print_radiomics, "print the numbers of a job's radiomics reports as CSV (--json: as JSON)"),
    ):
        added = commands.add(name, command, text)
        added.add_argument("job", help="id of the job")
        if name == "radiomics":
            added.add_argument("--parquet", type=Path, metavar="FILE", help="write them to a Parquet file instead")
        if name in ("retry", "cancel"):
            added.add_argument(
                "--to", metavar="ARCHIVE", help="only the delivery to this archive, or to a webhook: @NAME"
            )
    again = commands.add("retry-all", retry_all, "run all jobs again that ended for a reason")
    again.add_argument("--reason", default="failed", help="failed (default), cancelled, or the code of a skip")
    again.add_argument("--text", default="", help="only jobs whose error contains this text")
    anew = commands.add(
        "decide-again", decide_again, "decide again, after a change of the rules, on what was decided on"
    )
    anew.add_argument("--archive", default="local", help="name of the archive (default: local)")
    which = anew.add_mutually_exclusive_group()
    which.add_argument("--reason", default="", help="only decisions with this reason: failed, or the code of a skip")
    which.add_argument("--query", action="append", metavar="KEY=VALUE,...", help="only studies that match")
    anew.add_argument("--text", default="", help="only decisions whose detail contains this text")
    anew.add_argument("--no-wait", action="store_true", help="do not follow it")
    deliveries = commands.add("deliveries", list_deliveries, "list deliveries to further destinations, newest first")
    deliveries.add_argument("--state", type=_job_state, help="only deliveries in this state")
    deliveries.add_argument("--limit", type=count, default=50, help="at most so many deliveries (default: 50)")
    sooner = commands.add("prioritise", prioritise, "let a job that waits be taken up sooner or later")
    sooner.add_argument("job", help="id of the job")
    sooner.add_argument(
        "--priority", choices=["urgent", "normal", "backfill"], default="urgent", help="how soon (default: urgent)"
    )
    commands.add("pause", pause, "let workers take no new job; running ones go on")
    commands.add("resume", resume, "let workers take jobs again")


def _job_state(text: str) -> JobState:
    from orthanc_plugin.domain.job import JobState

    if text not in list(JobState):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(JobState)}")
    return JobState(text)


def _queue(desk: Desk) -> JobQueue:
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    check_database(desk.configuration)
    return JobQueue(desk.configuration.database, desk.configuration.stuck_s)


def acts_on_job(desk: Desk, queue: JobQueue, what: What) -> None:
    """Let the audit log name the job and its series."""
    job_id = desk.options.job
    row = queue.ledger.of_job(job_id)
    if row is None:
        desk.acts(what)  # the command fails, and what somebody wrote in the place of an id could be anything
    else:
        desk.acts(what, row.series_instance_uid, study=row.study_instance_uid, archive=row.archive, job=job_id)


def list_jobs(desk: Desk) -> None:
    """List jobs, newest first."""
    from orthanc_plugin.domain.job import JobState

    search, queue = search_for(desk), _queue(desk)
    search = dataclasses.replace(search, jobs_only=JobState.SKIPPED not in search.states)
    jobs = queue.views(queue.ledger.decisions(search, limit=desk.options.limit, offset=desk.options.offset))
    if desk.options.json:
        desk.print_json([dataclasses.asdict(job) for job in jobs])
        return
    for job in jobs:  # not a table, which would cut the ids that `jobs show` needs
        stuck = " (stuck: no worker works on it)" if job.stuck else ""
        desk.console.print(f"{job.id or 'no job:'} [bold]{job.state}[/bold]{stuck}", soft_wrap=True)
        desk.console.print(
            f"  {job.priority}, rule {job.rule or 'none'}, series {job.series_instance_uid}, "
            f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"
        )
        if job.waits_for:
            desk.console.print(f"  waits for {job.waits_for}", soft_wrap=True, markup=False)
        if job.error:
            desk.console.print(f"  {job.error}", soft_wrap=True, markup=False)


def show_job(desk: Desk) -> None:
    """Show one job as JSON."""
    queue = _queue(desk)
    acts_on_job(desk, queue, What.VIEW)
    desk.print_json(dataclasses.asdict(queue.show(desk.options.job)))


def retry_job(desk: Desk) -> None:
    """Run a job again that ended or is stuck."""
    queue, to = _queue(desk), desk.options.to
    acts_on_job(desk, queue, What.ACT)
    if to:
        queue.deliveries.retry(desk.options.job, to)
    else:
        queue.retry(desk.options.job)
    desk.say({"retried": desk.options.job} | ({"to": to} if to else {}))


def cancel_job(desk: Desk) -> None:
    """End an open job, or one of its deliveries."""
    queue, to = _queue(desk), desk.options.to
    acts_on_job(desk, queue, What.ACT)
    if to:
        queue.deliveries.cancel(desk.options.job, to)
    else:
        queue.cancel(desk.options.job)
    desk.say({"cancelled": desk.options.job} | ({"to": to} if to else {}))


def withdraw_job(desk: Desk) -> None:
    """Withdraw what a job had stored that did not end as done."""
    queue = _queue(desk)
    acts_on_job(desk, queue, What.DELETE)
    queue.withdrawals.of_leftovers(desk.options.job)
    desk.say({"withdrawn": desk.options.job})


def retry_all(desk: Desk) -> None:
    """Run all jobs again that ended for a reason."""
    queue = _queue(desk)
    desk.acts(What.ACT)
    jobs = queue.retry_all(desk.options.reason, desk.options.text)
    rows = filter(None, map(queue.ledger.of_job, jobs[:MOST_SERIES]))
    desk.acts(What.ACT, *(row.series_instance_uid for row in rows), count=len(jobs))
    desk.say({"retried": list(jobs)}, f"retried: {len(jobs)} jobs")


def decide_again(desk: Desk) -> int:
    """Order new decisions and follow them."""
    from orthanc_plugin.cli.backfill import follow
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.jobs.orders import Orders, parse_query

    options = desk.options
    if options.archive not in desk.configuration.archives:
        raise ConfigError(f"the configuration has no archive {options.archive}")
    queue = _queue(desk)
    desk.acts(What.ACT, archive=options.archive)
    orders = Orders(queue.ledger)
    if options.query and options.text:
        raise ConfigError("--query and --text: give one of them")
    if options.query:
        return follow(desk, queue, orders.place_query(options.archive, parse_query(options.query), again=True))
    return follow(desk, queue, orders.place_again(options.archive, options.reason, options.text))


def list_deliveries(desk: Desk) -> None:
    """List deliveries, newest first."""
    states = [desk.options.state] if desk.options.state else []
    found = _queue(desk).deliveries.list(*states, limit=desk.options.limit)
    if desk.options.json:
        desk.print_json([dataclasses.asdict(delivery) for delivery in found])
        return
    for delivery in found:
        desk.console.print(f"{delivery.job_id} to {delivery.destination} [bold]{delivery.state}[/bold]", soft_wrap=True)
        again = f"try again: orthanc-enrich jobs retry {delivery.job_id} --to {delivery.destination}"
        for line in (delivery.error, *delivery.notes, again if delivery.try_again else ""):
            if line:
                desk.console.print(f"  {line}", soft_wrap=True, markup=False)


def prioritise(desk: Desk) -> None:
    """Let a job that waits be taken up sooner or later."""
    from orthanc_plugin.domain.job import Priority

    queue = _queue(desk)
    acts_on_job(desk, queue, What.ACT)
    queue.prioritise(desk.options.job, Priority(desk.options.priority))
    desk.say({"job": desk.options.job, "priority": desk.options.priority})


def pause(desk: Desk) -> None:
    """Let workers take no new job."""
    desk.acts(What.SETTINGS)
    _queue(desk).pause(True)
    desk.say({"paused": True})


def resume(desk: Desk) -> None:
    """Let workers take jobs again."""
    desk.acts(What.SETTINGS)
    _queue(desk).pause(False)
    desk.say({"paused": False})


def print_radiomics(desk: Desk) -> None:
    """Print the values of a job's radiomics reports, or write them as Parquet."""
    from orthanc_plugin.jobs.numbers import StoredResults
    from orthanc_plugin.jobs.pseudonym import patient_column
    from orthanc_plugin.results.sr.radiomics_table import to_csv, to_json, to_parquet

    queue = _queue(desk)
    acts_on_job(desk, queue, What.EXPORT)
    results = StoredResults(queue, desk.configuration.archives, patient=patient_column(desk.configuration))
    rows = results.radiomics(desk.options.job)
    if desk.options.parquet is not None:
        desk.options.parquet.write_bytes(to_parquet(rows))
        return
    print((to_json if desk.options.json else to_csv)(rows).rstrip("\n"))
