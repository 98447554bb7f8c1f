"""The command `inspect`: what would be done with each series of a folder, and why; no model runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk

if TYPE_CHECKING:
    from orthanc_plugin.domain.volume import CtSeries
    from orthanc_plugin.jobs.inspection import Inspection

_STATES = {"passed": "passed", "noted": "[yellow]noted[/yellow]", "refused": "[red]refused[/red]", "not-asked": "-"}
_VERDICTS = {True: "passed", False: "[yellow]FAILED[/yellow]", None: "-"}


def add_commands(commands: Commands) -> None:
    """Add `inspect`."""
    text = "show what would be done with each series of a folder, and why, with the figure of every check"
    command = commands.add("inspect", inspect, text)
    command.add_argument("directory", type=Path, help="folder of DICOM files, at any depth")
    command.add_argument("--series", metavar="UID", help="inspect only the series with this SeriesInstanceUID")
    command.add_argument("--out", type=Path, metavar="DIR", help="write a picture of the middle slice of each series")


def inspect(desk: Desk) -> int:
    """Print the inspection of each series; fail if one would not be enriched, or a DICOM file cannot be read."""
    from orthanc_plugin.cli.run import inspect_folder

    options = desk.options
    inspections, found = [], []
    for inspection, series, unread in inspect_folder(options.directory, desk.configuration, options.series):
        inspections.append(inspection)
        found.append(unread)
        if options.out is not None and series is not None:
            desk.tell(f"picture: {write_picture(options.out, inspection.series_instance_uid, series)}")
        if not options.json:
            show(inspection, desk.console)
            for line in unread.lines():
                desk.console.print(f"  {line}", soft_wrap=True, markup=False)
    if options.json:
        told = zip(inspections, found, strict=True)
        desk.print_json([dataclasses.asdict(one) | {"unread": dataclasses.asdict(unread)} for one, unread in told])
    is_right = all(inspection.would == "enrich" for inspection in inspections)
    return EXIT_DONE if is_right and not any(unread.any_lost for unread in found) else EXIT_FAILED


def write_picture(out: Path, series_instance_uid: str, series: CtSeries) -> Path:
    """Write the middle slice with the outline of the body as PNG."""
    from orthanc_plugin.quality.picture import middle_slice_png

    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{series_instance_uid}.png"
    file.write_bytes(middle_slice_png(series.volume))
    return file


def show(inspection: Inspection, console: Console) -> None:
    """Print one inspection for people."""
    reason = f" ({inspection.reason})" if inspection.reason else ""
    console.print(f"series {inspection.series_instance_uid}: [bold]would {inspection.would}[/bold]{reason}")
    table = Table("step", "state", "what was found")
    for step in inspection.steps:
        table.add_row(step.step, _STATES[step.state], escape(step.detail))
    console.print(table)
    failures = [(verdict.rule, failure) for verdict in inspection.rules for failure in verdict.failures]
    figures = Table("check of the input", "verdict", "value", "what was found")
    for figure in inspection.figures:
        value = "" if figure.value is None else f"{figure.value:.4g}"
        figures.add_row(figure.check, _VERDICTS[figure.passed], value, escape(figure.detail))
    criteria = Table("rule", "criterion that is not met", "found", "wanted")
    for rule, failure in failures:
        criteria.add_row(rule, failure.criterion, escape(failure.found), escape(failure.wanted))
    for shown in (figures, criteria):
        if shown.row_count:
            console.print(shown)
