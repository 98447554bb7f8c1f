"""The command `validate`: masks of models against those of experts, or against what people made of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.cli.ct_source import chosen_rule, opened, source_options
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.validation.cases import Case
    from orthanc_plugin.validation.collector import Collector
    from orthanc_plugin.validation.sources import CtShelf, Found


def add_commands(commands: Commands) -> None:
    """Add `validate`."""
    text = "compare masks of models with masks of experts, or with what people made of them"
    command = commands.add("validate", validate, text)
    named = "folders, files, or STUDY/SERIES/SOP (UIDs) in the archive"
    command.add_argument(
        "--ai", nargs="+", action="extend", default=[], metavar="OBJECT", help=f"SEG, RTSTRUCT, SR of models: {named}"
    )
    command.add_argument(
        "--expert", nargs="+", action="extend", default=[], metavar="OBJECT", help=f"SEG, RTSTRUCT of experts: {named}"
    )
    command.add_argument("--pairs", type=Path, metavar="FILE", help="CSV with the columns ai and expert, instead")
    command.add_argument("--corrections", action="store_true", help="compare our SEGs with what people made of them")
    command.add_argument(
        "--study", nargs="+", action="extend", default=[], metavar="UID", help="only these, with --corrections"
    )
    source_options(command)
    command.add_argument("--rule", default="", metavar="NAME", help="rule that says how to read a CT (default: first)")
    command.add_argument("--mapping", type=Path, metavar="FILE", help="CSV with the columns expert and ai: equal names")
    text = "of the surface Dice, in mm (default: 3)"
    command.add_argument("--tolerance", type=float, default=3.0, metavar="MM", help=text)
    command.add_argument("--worst", type=int, default=2, metavar="N", help="pictures of each structure (default: 2)")
    command.add_argument("--viewer", default="", metavar="URL", help="address of the service, for links to the viewer")
    command.add_argument("--sr", action="store_true", help="also write each comparison as DICOM SR")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables and page")


def validate(desk: Desk) -> int:
    """Compare, write tables and page, and print the summary; fail if something could not be compared."""
    from orthanc_plugin.validation.cases import Status
    from orthanc_plugin.validation.collector import Collector

    options = desk.options
    _check(options)
    what = "corrections" if options.corrections else "validation"
    other = "correction" if options.corrections else "expert"
    collector = Collector(options.worst, options.viewer, other, options.tolerance)
    with opened(desk) as archive:
        notes = list(
            _corrections(desk, archive, collector) if options.corrections else _cases(desk, archive, collector)
        )
    files = collector.write(options.out, what, f"{what.capitalize()} of masks")
    refused = [row for row in collector.rows if row.status in (Status.REFUSED, Status.AMBIGUOUS)]
    for line in (*notes, *(f"not compared: {row.structure} {row.reason}" for row in refused)):
        desk.tell(line)
    _say(desk, collector, [str(file) for file in files], len(refused), notes)
    lost = bool(refused) if options.corrections else bool(refused or notes or not collector.rows)
    return EXIT_FAILED if lost else EXIT_DONE


def _check(options: argparse.Namespace) -> None:
    from orthanc_plugin.errors import ConfigError

    ways = (bool(options.ai or options.expert), options.pairs is not None, options.corrections)
    if sum(ways) != 1 or (ways[0] and not (options.ai and options.expert)):
        raise ConfigError("name --ai and --expert, or --pairs, or --corrections")
    if not options.tolerance >= 0 or options.worst < 0:
        raise ConfigError("--tolerance and --worst must not be negative")
    if options.study and not options.corrections:
        raise ConfigError("--study goes with --corrections")


def _comparison(desk: Desk) -> Callable[..., Case]:
    from functools import partial

    from orthanc_plugin.jobs.pseudonym import patient_column
    from orthanc_plugin.validation.cases import compare_objects
    from orthanc_plugin.validation.structures import read_mapping

    mapped = read_mapping(desk.options.mapping) if desk.options.mapping else {}
    column = patient_column(desk.configuration)
    return partial(compare_objects, mapped=mapped, tolerance_mm=desk.options.tolerance, patient=column)


def _cases(desk: Desk, archive: Archive, collector: Collector) -> Iterator[str]:
    """Compare the objects that are named; yield what people should know."""
    from orthanc_plugin.errors import EnrichError
    from orthanc_plugin.validation.cases import refused_row, try_compare
    from orthanc_plugin.validation.sources import CtShelf, whole

    compare = _comparison(desk)
    shelf = CtShelf(archive, chosen_rule(desk).reading)
    ai, expert, pairs = _named(desk, archive, shelf)
    yield from (f"{file.name} is DICOM and cannot be read" for side in (ai, expert) for file in side.unread)
    for one, other, reason in pairs:
        if one is None or other is None:
            collector.rows.append(refused_row(one, other, reason))
            continue
        try:
            case = try_compare(shelf.read(shelf.place_of(one)), whole(one), whole(other), compare)
        except EnrichError as error:
            collector.rows.append(refused_row(one, other, error))
            continue
        collector.add(case, ai.reports)
        _write_sr(desk, case)


def _named(
    desk: Desk, archive: Archive, shelf: CtShelf
) -> tuple[Found, Found, Sequence[tuple[Dataset | None, Dataset | None, str]]]:
    from orthanc_plugin.validation.sources import Found, find_objects, pair_objects, read_pairs

    options = desk.options
    if options.pairs is None:
        ai, expert = (find_objects(names, archive) for names in (options.ai, options.expert))
        return ai, expert, list(pair_objects(ai.masks, expert.masks, shelf))
    sides = [tuple(find_objects([name], archive) for name in pair) for pair in read_pairs(options.pairs)]
    pairs = [(one, other, "") for a, e in sides for one in a.masks for other in e.masks]
    found = [
        Found(tuple(ds for pair in sides for ds in pair[k].objects), tuple(f for pair in sides for f in pair[k].unread))
        for k in (0, 1)
    ]
    return found[0], found[1], pairs


def _corrections(desk: Desk, archive: Archive, collector: Collector) -> Iterator[str]:
    """Compare what people made of our SEGs; yield what people should know."""
    from orthanc_plugin.errors import InputError
    from orthanc_plugin.jobs.pseudonym import patient_column
    from orthanc_plugin.validation.corrections import corrections_of
    from orthanc_plugin.validation.sources import CtShelf

    shelf, column = CtShelf(archive, chosen_rule(desk).reading), patient_column(desk.configuration)
    independent = 0
    for study in desk.options.study or archive.studies({}, 0):
        try:
            found = corrections_of(
                archive, study, lambda *place: shelf.read(place), column, tolerance_mm=desk.options.tolerance
            )
            for one in found:
                independent += not one.is_correction
                if one.is_correction:
                    collector.add(one.case)
                    _write_sr(desk, one.case)
        except InputError as error:
            yield f"study {study}: {error}"
    if independent:
        yield f"{independent} objects of others were drawn independently, and are no corrections"
    if not collector.rows:
        yield "no correction was found"


def _write_sr(desk: Desk, case: Case) -> None:
    from datetime import UTC, datetime

    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.validation.sr import encode_comparison_sr

    if desk.options.sr and case.pairs:
        title = desk.configuration.report_title.code
        ds = encode_comparison_sr(case, title=title, created=datetime.now(UTC))
        FolderArchive(desk.options.out, desk.options.out).store(ds)


def _say(desk: Desk, collector: Collector, files: list[str], refused: int, notes: list[str]) -> None:
    from rich.table import Table

    from orthanc_plugin.validation.page import number
    from orthanc_plugin.validation.summary import summarise

    metrics = summarise(collector.rows)
    if desk.options.json:
        summary = [
            {"model": m.group, "structure": m.structure, "metric": m.metric, "cases": m.count, "missed": m.missed,
             "extra": m.extra, "mean": m.mean.value, "median": m.median.value} for m in metrics
        ]  # fmt: skip
        desk.print_json(
            {"files": files, "rows": len(collector.rows), "refused": refused, "notes": notes, "summary": summary}
        )
        return
    table = Table("model", "structure", "metric", "cases", "missed", "extra", "mean", "median", "95 % interval")
    for m in metrics:
        interval = "" if m.median.low is None else f"{number(m.median.low)} to {number(m.median.high)}"
        table.add_row(m.group, m.structure, m.metric, str(m.count), str(m.missed), str(m.extra), number(m.mean.value),
                      number(m.median.value), interval)  # fmt: skip
    desk.console.print(table)
    for file in files:
        desk.console.print(file, soft_wrap=True, markup=False)
