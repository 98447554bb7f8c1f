"""The commands that work on a folder: `run` enriches it, `rules test` explains what the rules decide."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, outcome_code

if TYPE_CHECKING:
    from orthanc_plugin.cli.run import Outcome, SeriesVerdict


def add_commands(commands: Commands) -> None:
    """Add `run`."""
    run = commands.add("run", enrich, "enrich a folder without a PACS: CT in, SEG and SR out")
    run.add_argument("directory", type=Path, help="folder of CT files, at any depth")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")


def add_rules_commands(rules: Commands) -> None:
    """Add `test` to the group `rules`."""
    text = "show which rule takes each series of a folder, and why the others do not"
    rules.add("test", explain, text).add_argument("directory", type=Path, help="folder of DICOM files, at any depth")


def enrich(desk: Desk) -> int:
    """Enrich every series of a folder and print what became of it."""
    from orthanc_plugin.cli.run import enrich_folder

    outcomes = enrich_folder(desk.options.directory, desk.options.out, desk.configuration, desk.messages)
    if desk.options.json:
        desk.print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            show_outcome(outcome, desk.console)
    if any(outcome.unread.any_lost for outcome in outcomes):
        return EXIT_FAILED
    return outcome_code([outcome.state for outcome in outcomes])


def explain(desk: Desk) -> int:
    """Print what each rule says about each series of a folder; fail where a DICOM file could not be read."""
    from orthanc_plugin.cli.run import check_rules

    verdicts = check_rules(desk.options.directory, desk.configuration)
    if desk.options.json:
        desk.print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            show_verdict(verdict, desk.console)
    return EXIT_FAILED if any(verdict.unread.any_lost for verdict in verdicts) else EXIT_DONE


def show_outcome(outcome: Outcome, console: Console) -> None:
    """Print one outcome for people."""
    console.print(f"series {outcome.series_instance_uid}: [bold]{outcome.state}[/bold] {outcome.reason}".rstrip())
    if outcome.volumes_ml:
        table = Table("structure", "mL")
        for key, volume_ml in outcome.volumes_ml.items():
            table.add_row(key, f"{volume_ml:.1f}")
        console.print(table)
    for location in (stage.location for stage in outcome.stages if stage.location is not None):
        covered = ", ".join(f"{region} {part:.2f}" for region, part in location.coverage.items() if part)
        console.print(f"  body part {location.tag}, {f'covered: {covered}' if covered else 'no valid region'}")
    for stage in outcome.stages:
        console.print(f"  {stage.name}: {stage.seconds:.1f} s, {stage.peak_mib:.0f} MiB")
    for line in (outcome.detail, *outcome.notes, *outcome.unread.lines(), *outcome.files.values()):
        if line:
            console.print(f"  {line}", soft_wrap=True, markup=False)


def show_verdict(verdict: SeriesVerdict, console: Console) -> None:
    """Print one series for people: for each rule the criteria that failed, what was found and what was wanted."""
    takes = f"rule {verdict.takes}" if verdict.takes else verdict.reason or "no rule takes it"
    if verdict.takes and verdict.reason:
        takes += f": {verdict.reason}"
    name = f"{verdict.series_instance_uid} {escape(verdict.description)}"
    console.print(f"series {name}: [bold]{takes}[/bold]", soft_wrap=True)
    for line in (verdict.detail, *verdict.unread.lines()):
        if line:
            console.print(f"  {line}", soft_wrap=True, markup=False)
    table = Table("rule", "criterion", "found", "wanted")
    for rule in verdict.rules:
        if rule.matches:
            table.add_row(rule.rule, "matches", "", "")
        for failure in rule.failures:
            table.add_row(rule.rule, failure.criterion, escape(failure.found), escape(failure.wanted))
    console.print(table)
    if verdict.study:
        from orthanc_plugin.cli.study import show_study

        show_study(verdict.study, verdict.series_instance_uid, console)
