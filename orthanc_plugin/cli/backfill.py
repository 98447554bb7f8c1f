"""The command `orthanc-enrich backfill`: have old studies enriched in the background, and follow that."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk
from orthanc_plugin.errors import ConfigError, EnrichError

if TYPE_CHECKING:
    from orthanc_plugin.jobs.ledger import Ledger
    from orthanc_plugin.jobs.orders import Item, Order, Orders
    from orthanc_plugin.jobs.queue import JobQueue

FOLLOW_S = 2.0
SILENT_S = 60.0
"""A service that has not looked at an order for so long does not run, or one look takes long."""
ALIVE_S = 30.0
"""A worker that runs beats more often."""


def add_commands(commands: Commands) -> None:
    """Add `backfill`."""
    text = "enrich studies that are in an archive already, after new series; without options, show the backfills"
    backfill = commands.add("backfill", run, text)
    backfill.add_argument("--archive", default="local", help="name of the archive (default: local)")
    what = backfill.add_mutually_exclusive_group()
    what.add_argument(
        "--query", action="append", metavar="KEY=VALUE,...", help="for example StudyDate=20200101-20201231"
    )
    what.add_argument("--list", type=Path, metavar="FILE", help="a file with one StudyInstanceUID a line; - for stdin")
    what.add_argument("--stop", metavar="ID", help="end a backfill; what it has queued goes on")
    backfill.add_argument("--limit", type=_number, default=0, metavar="N", help="at most so many studies")
    backfill.add_argument("--again", action="store_true", help="decide again on what was decided on before, too")
    backfill.add_argument("--dry-run", action="store_true", help="only count what would get a job, and what not")
    backfill.add_argument("--no-wait", action="store_true", help="only place the order; do not follow it")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a number from 0; 0 means all")
    return int(text)


def run(desk: Desk) -> int:
    """Place an order and follow it, stop one, or list them."""
    from orthanc_plugin.jobs.orders import items_of_lines, parse_query
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    options, configuration = desk.options, desk.configuration
    if options.archive not in configuration.archives:
        raise ConfigError(f"the configuration has no archive {options.archive}")
    query = parse_query(options.query) if options.query else {}
    items = tuple(items_of_lines(_lines(options.list))) if options.list else ()
    check_database(configuration)
    with closing(JobQueue(configuration.database)) as queue:
        if options.dry_run:
            return count(desk, queue.ledger, query, items)
        return _ordered(desk, queue, query, items)


def _ordered(desk: Desk, queue: JobQueue, query: dict[str, str], items: tuple[Item, ...]) -> int:
    from orthanc_plugin.jobs.orders import Orders

    options, orders = desk.options, Orders(queue.ledger)
    if options.stop:
        desk.acts(What.ACT, detail="backfill stop")
        orders.stop(options.stop)
        desk.say({"stopped": options.stop})
        return EXIT_DONE
    if options.query is None and options.list is None:
        return show(desk, orders)
    desk.acts(What.ACT, *(series for _, series in items), archive=options.archive, count=len(items))
    choice = {"limit": options.limit, "again": options.again}
    if query:
        order = orders.place_query(options.archive, query, **choice)
    else:
        order = orders.place_list(options.archive, items, f"{len(items)} studies or series of a list", **choice)
    return follow(desk, queue, order)


def _lines(file: Path) -> list[str]:
    return (sys.stdin.read() if file == Path("-") else file.read_text()).splitlines()


def follow(desk: Desk, queue: JobQueue, order: Order) -> int:
    """Tell how far an order is until it has ended; Ctrl-C ends the telling, and the service goes on."""
    if not getattr(desk.options, "no_wait", False):
        desk.tell(f"backfill {order.id} of archive {order.archive}: {order.asked}")
        try:
            order = _followed(desk, queue, order)
        except KeyboardInterrupt:
            desk.tell(f"The service goes on with it. To end it: orthanc-enrich backfill --stop {order.id}")
    desk.say(as_facts(order), in_words(order), *order.unread)
    return EXIT_FAILED if order.unreadable else EXIT_DONE


def _followed(desk: Desk, queue: JobQueue, order: Order) -> Order:
    from orthanc_plugin.jobs.orders import OPEN_ORDERS, Orders

    told, placed = "", time.monotonic()
    while order.state in OPEN_ORDERS:
        quiet = (datetime.now(UTC) - order.seen).total_seconds() if order.seen else time.monotonic() - placed
        busy = quiet > SILENT_S and _works(queue)
        text = in_words(order) + (
            "; no news: workers run, so the service may be busy with one long look" if busy else ""
        )
        if text != told:
            desk.tell(text)
            told = text
        if quiet > SILENT_S and not busy:
            raise EnrichError(
                f"no service has looked at backfill {order.id} for {quiet:.0f} s; it stays in the job database and"
                " begins when the service runs (Orthanc with the plugin, or orthanc-enrich service)"
            )
        time.sleep(FOLLOW_S)
        order = Orders(queue.ledger).get(order.id)
    return order


def _works(queue: JobQueue) -> bool:
    """Tell whether a worker of this job database lives: its service starts and stops with it."""
    since = queue.heartbeats.now() - timedelta(seconds=ALIVE_S)
    return any(beat.at > since for beat in queue.heartbeats.all().values())


def show(desk: Desk, orders: Orders) -> int:
    """List the backfills, newest first."""
    found = orders.all()
    if desk.options.json:
        desk.print_json([as_facts(order) for order in found])
        return EXIT_DONE
    for order in found:
        desk.console.print(f"{order.id} {order.archive}: {order.asked}", soft_wrap=True, markup=False)
        desk.console.print(f"  {in_words(order)}", soft_wrap=True, markup=False)
    if not found:
        desk.console.print("no backfills")
    return EXIT_DONE


def count(desk: Desk, ledger: Ledger, query: dict[str, str], items: tuple[Item, ...]) -> int:
    """Count what a backfill would do."""
    from orthanc_plugin.archive.opening import open_archive
    from orthanc_plugin.archive.orthanc import open_feed
    from orthanc_plugin.jobs.decision import Judge
    from orthanc_plugin.jobs.orders import check_query
    from orthanc_plugin.jobs.rehearsal import listed, rehearse
    from orthanc_plugin.rules.installed import installed_models

    options, settings = desk.options, desk.configuration.archives[desk.options.archive]
    if not items:
        check_query(query)
    models = installed_models(desk.configuration.models_directory)
    judge = Judge(desk.configuration.rules, models.digests, ledger, test_models=models.test_models)
    with ExitStack() as opened:
        archive = opened.enter_context(closing(open_archive(options.archive, settings)))
        if (feed := open_feed(options.archive, settings)) is not None:
            opened.callback(feed.close)
        wanted = iter(items) if items else listed(archive, query)
        found = list(rehearse(judge, archive, feed, wanted, limit=options.limit, again=options.again))
    counts = dict(sorted(Counter(what for _, what in found).items()))
    unread = [f"{uid}: {what}" for uid, what in found if what.startswith("unreadable")]
    lines = [f"{number:>7} series: {what}" for what, number in counts.items()] or ["no CT series match"]
    desk.say({"counts": counts, "unread": unread}, *lines, *unread)
    return EXIT_FAILED if unread else EXIT_DONE


def as_facts(order: Order) -> dict[str, object]:
    """Return an order with its rate and estimate, for machines."""
    return dataclasses.asdict(order) | {"studies_per_hour": order.studies_per_hour, "left_s": order.left_s}


def in_words(order: Order) -> str:
    """Say how far an order is, in one line."""
    parts = [
        f"{order.state}: {order.looked_at:,} of {order.listed:,} studies",
        f"{order.jobs} jobs, {order.skips} skipped, {order.known + order.unchanged} decided on before",
    ]
    if order.unreadable:
        parts.append(f"{order.unreadable} not readable")
    if order.studies_per_hour is not None:
        parts.append(f"{order.studies_per_hour:.0f} studies an hour")
    if order.left_s is not None:
        parts.append(f"about {_duration(order.left_s)} left")
    if order.problem:
        parts.append(f"waits: {order.problem}")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
