"""The commands of `orthanc-enrich rules`: they explain what the rules decide."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orthanc_plugin.cli.desk import Commands, Desk

if TYPE_CHECKING:
    from orthanc_plugin.cli.folder import SeriesVerdict


def add_commands(commands: Commands) -> None:
    """Add `test`."""
    text = "show which rule takes each series of a folder, and why the others do not"
    commands.add("test", explain, text).add_argument("directory", type=Path, help="folder of DICOM files, at any depth")


def explain(desk: Desk) -> None:
    """Print what each rule says about each series of a folder."""
    from orthanc_plugin.cli.folder import check_rules

    verdicts = check_rules(desk.options.directory, desk.configuration)
    if desk.options.json:
        desk.print_json([dataclasses.asdict(verdict) for verdict in verdicts])
        return
    for verdict in verdicts:
        show_verdict(verdict, desk.console)


def show_verdict(verdict: SeriesVerdict, console: Console) -> None:
    """Print one series for people: for each rule the criteria that failed, what was found and what was wanted."""
    takes = f"rule {verdict.takes}" if verdict.takes else "no rule takes it"
    name = f"{verdict.series_instance_uid} {escape(verdict.description)}"
    console.print(f"series {name}: [bold]{takes}[/bold]", soft_wrap=True)
    table = Table("rule", "criterion", "found", "wanted")
    for rule in verdict.rules:
        if rule.matches:
            table.add_row(rule.rule, "matches", "", "")
        for failure in rule.failures:
            table.add_row(rule.rule, failure.criterion, escape(failure.found), escape(failure.wanted))
    console.print(table)
