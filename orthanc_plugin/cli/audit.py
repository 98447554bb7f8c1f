"""The commands of `orthanc-enrich audit`: check, show and export the audit log. Exit code 1: somebody changed it."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, count
from orthanc_plugin.domain.spreadsheet import harmless
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.audit.trail import Entry, Head, Trail

_COLUMNS = ("number", "at", "what", "who", "way", "address", "outcome", "detail", "archive", "study", "series", "job",
            "more")  # fmt: skip


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    checked = commands.add("verify", verify, "check that nobody changed the audit log, and print its head")
    text = "a head of an earlier time, kept elsewhere: that line must still be there"
    checked.add_argument("--head", type=_head, metavar="NUMBER:DIGEST", help=text)
    shown = commands.add("show", show, "show who did what")
    _filters(shown)
    shown.add_argument("--limit", type=count, default=50, metavar="N", help="the last N lines (default: %(default)s)")
    exported = commands.add("export", export, "write the audit log to a file")
    exported.add_argument("file", type=Path, help="file to write; it must not exist")
    formats = ("json", "csv", "xml")
    exported.add_argument("--format", choices=formats, default="json", help="json (one object a line), csv, or xml "
                          "(DICOM audit messages, one a line; default: %(default)s)")  # fmt: skip
    _filters(exported)


def verify(desk: Desk) -> int:
    """Check the log."""
    trail = _trail(desk)
    if not trail.files() and trail.last_number() == 0 and desk.options.head is None:
        raise ConfigError(
            f"{desk.configuration.state_directory} holds no audit log: is this the right --config? If a service has run"
            " with these settings, the log was removed"
        )
    verdict = trail.verify(desk.options.head)
    facts = {"entries": verdict.entries, "head": str(verdict.head), "problems": list(verdict.problems)}
    lines = [f"{verdict.entries} lines, head {verdict.head}", *(f"problem: {text}" for text in verdict.problems)]
    desk.say(facts, *lines)
    return EXIT_FAILED if verdict.problems else EXIT_DONE


def show(desk: Desk) -> None:
    """Show lines."""
    desk.acts(What.AUDIT)
    entries = list(_chosen(desk))[-max(0, desk.options.limit) or None :] if desk.options.limit else []
    if desk.options.json:
        desk.print_json([_row(entry) for entry in entries])
        return
    for entry in entries:
        row = _row(entry)
        about = " ".join(str(row[name]) for name in ("detail", "archive", "study", "series", "job") if row[name])
        line = f"{row['number']} {row['at']} {row['who']} {row['what']} {row['outcome']} {about}"
        desk.console.print(line, soft_wrap=True, markup=False)


def export(desk: Desk) -> None:
    """Write lines to a new file of mode 0600."""
    import os

    from orthanc_plugin.audit.message import audit_message

    desk.acts(What.AUDIT)
    site, kind = desk.configuration.audit.site, desk.options.format
    descriptor = os.open(desk.options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    entries = tuple(_chosen(desk))
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        if kind == "csv":
            table.writeheader()
        for entry in entries:
            if kind == "csv":
                table.writerow({name: _cell(value) for name, value in _row(entry).items()})
            elif kind == "xml":
                file.write(audit_message(entry.event, entry.head, site) + "\n")
            else:
                file.write(json.dumps(_row(entry)) + "\n")
    desk.say(
        {"lines": len(entries), "file": str(desk.options.file)}, f"{len(entries)} lines written to {desk.options.file}"
    )


def _filters(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--who", default="", metavar="NAME", help="only of this user or token")
    sub.add_argument(
        "--what", default="", choices=[*What], metavar="KIND", help="only this kind of act, such as view or export"
    )
    sub.add_argument("--series", default="", metavar="UID", help="only about this series, study or job")
    sub.add_argument("--since", type=_day, metavar="DATE", help="only from this day on, as 2026-01-31")


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError("write a day as 2026-01-31") from None


def _chosen(desk: Desk) -> Iterator[Entry]:
    options = desk.options
    for entry in _trail(desk).entries():
        event = entry.event
        about = (*event.series, event.study, event.job)
        if (
            options.who in ("", event.who)
            and options.what in ("", event.what)
            and (not options.series or options.series in about)
            and event.at.date().isoformat() >= (options.since or "")
        ):
            yield entry


def _row(entry: Entry) -> dict[str, object]:
    record = entry.event.record()
    row = {name: record.get(name, "") for name in _COLUMNS} | {"number": entry.head.number}
    return row | {"outcome": str(entry.event.outcome), "series": " ".join(entry.event.series)}


def _cell(value: object) -> str:
    """Write a cell that no spreadsheet takes for a formula."""
    text = str(value)
    return harmless(text)


def _head(text: str) -> Head:
    from orthanc_plugin.audit.trail import Head

    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != 64:
        raise argparse.ArgumentTypeError("must be NUMBER:DIGEST, as `audit verify` prints it")
    return Head(int(number), digest)


def _trail(desk: Desk) -> Trail:
    from orthanc_plugin.audit.trail import Trail
    from orthanc_plugin.jobs.state import check_owner

    configuration = desk.configuration
    check_owner(configuration.state_directory)
    return Trail(configuration.state_directory, configuration.audit.key.get_secret_value())
