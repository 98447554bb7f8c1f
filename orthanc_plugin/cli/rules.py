"""The commands of `orthanc-enrich rules` that ask archives: explain one series, compare a copy of the rules."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.jobs.comparison import Comparison

LOOK_S = 0.2


def add_commands(rules: Commands) -> None:
    """Add the commands."""
    explained = rules.add("explain", explain, "show which rule takes a series of an archive, and why the others do not")
    explained.add_argument("archive", help="name of the archive")
    explained.add_argument("study", help="StudyInstanceUID")
    explained.add_argument("series", help="SeriesInstanceUID")
    text = "compare a copy of the rules with those in use, on the last 1,000 series; nothing is changed"
    compared = rules.add("compare", compare, text)
    compared.add_argument("file", type=Path, help="JSON: a list of rules, or an orthanc.json")


def explain(desk: Desk) -> int:
    """Print what each rule says of a series; fail if none takes it."""
    from orthanc_plugin.jobs.inspector import Inspector, Place

    options = desk.options
    desk.acts(What.VIEW, options.series, study=options.study, archive=options.archive)
    found = Inspector(desk.configuration).explain(Place(options.archive, options.study, options.series))
    if desk.options.json:
        desk.print_json(dataclasses.asdict(found))
    else:
        table = Table("rule", "criterion", "found", "wanted")
        for verdict in found.verdicts:
            if verdict.matches:
                table.add_row(verdict.rule, "matches", "", "")
            for failure in verdict.failures:
                table.add_row(verdict.rule, failure.criterion, escape(failure.found), escape(failure.wanted))
        desk.console.print(table)
        if found.stages:
            desk.console.print(f"stages: {', '.join(found.stages)}", soft_wrap=True, markup=False)
    return EXIT_DONE if found.stages else EXIT_FAILED


def compare(desk: Desk) -> None:
    """Print how many series each outcome has before and after, and which series would change."""
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database
    from orthanc_plugin.service.rule_tester import started_comparison

    check_database(desk.configuration)
    queue = JobQueue(desk.configuration.database, desk.configuration.stuck_s)
    desk.acts(What.ACT)
    comparer = started_comparison(desk.configuration, queue, _rules(desk.options.file))
    while (state := comparer.state()) is None or state.looked_at < state.total:
        time.sleep(LOOK_S)
    if desk.options.json:
        desk.print_json(dataclasses.asdict(state))
    else:
        _show(desk, state)


def _rules(file: Path) -> tuple[dict[str, object], ...]:
    """Read a list of rules, or those of an orthanc.json."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not valid JSON: {error}") from None
    rules = content.get("Enrichment", content).get("Rules") if isinstance(content, dict) else content
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ConfigError(f"{file} holds no list of rules")
    return tuple(rules)


def _show(desk: Desk, state: Comparison) -> None:
    before, after = dict(state.before), dict(state.after)
    table = Table("outcome", "rules in use", "copy")
    for outcome in dict.fromkeys((*before, *after)):
        table.add_row(escape(outcome), str(before.get(outcome, 0)), str(after.get(outcome, 0)))
    desk.console.print(table)
    unread = f", {state.unreadable} of them cannot be read in their archive" if state.unreadable else ""
    desk.console.print(f"{state.total} series{unread}; {len(state.differences)} would change")
    for one in state.differences:
        line = f"{one.archive}/{one.series_instance_uid}: {one.before}, with the copy {one.after}"
        desk.console.print(line, soft_wrap=True, markup=False)
