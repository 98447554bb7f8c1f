"""The commands of `orthanc-enrich cohort`: build tables out of stored results, query them, send a cohort on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk

if TYPE_CHECKING:
    import pyarrow

    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.cohort.findings import Summary
    from orthanc_plugin.cohort.schema import Cell
    from orthanc_plugin.cohort.sources import Source
    from orthanc_plugin.config.archives import ArchiveSettings

_SHOWN = 40
_TABLES = "folder of the tables (default: cohort)"


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    build = commands.add("build", build_tables, "write the SEG and SR of an archive or a folder as Parquet tables")
    source = build.add_mutually_exclusive_group(required=True)
    source.add_argument("--archive", metavar="NAME", help="archive of the configuration (DICOMweb or folder)")
    source.add_argument("--folder", type=Path, metavar="DIR", help="folder of DICOM files")
    build.add_argument(
        "--query", action="append", metavar="KEY=VALUE,...", help="only studies of the archive that match"
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the tables")

    query = commands.add("query", query_tables, "ask the tables in SQL (read-only), or by a ready query")
    _which(query)
    query.add_argument("--list", action="store_true", help="list the ready queries, and the tables with their columns")
    query.add_argument("--out", type=Path, metavar="FILE", help="write the rows to a .csv, .parquet or .json file")

    send = commands.add("send", send_cohort, "send the series that a query names to where they are needed")
    _which(send)
    where = send.add_mutually_exclusive_group(required=True)
    where.add_argument("--backfill", action="store_true", help="have them enriched")
    where.add_argument("--folder", type=Path, metavar="DIR", help="copy them and their results to a folder")
    where.add_argument("--to", metavar="ARCHIVE", help="copy them and their results to another archive")
    where.add_argument("--tag", metavar="NAME", help="mark them in Orthanc: as a label, or as metadata before 1.12")
    origin = send.add_mutually_exclusive_group()
    origin.add_argument("--archive", default="local", metavar="NAME", help="archive that holds them (default: local)")
    origin.add_argument("--source", type=Path, metavar="DIR", help="folder that holds them")
    send.add_argument("--no-results", action="store_true", help="copy only the CT")
    send.add_argument("--old", action="store_true", help="also copy results that newer ones replace")
    send.add_argument("--dry-run", action="store_true", help="only say what would be sent")

    report = commands.add("report", write, "draw tables as one interactive HTML page that needs no network")
    report.add_argument("--tables", type=Path, metavar="DIR", help="folder of tables")
    report.add_argument(
        "--metrics", type=Path, action="append", default=[], metavar="CSV",
        help="table of AI against experts, for masks or landmarks",
    )  # fmt: skip
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for report.html and report.json")
    report.add_argument("--title", default="Report of a cohort", help="title of the page (default: Report of a cohort)")
    report.add_argument(
        "--viewer", metavar="URL",
        help="where a point opens, with {StudyInstanceUID} and {SeriesInstanceUID} (default: Viewer.Url)",
    )  # fmt: skip

    drift = commands.add("drift", watch, "look for drift of volumes, features, checks and input, and compare models")
    drift.add_argument("--tables", type=Path, default=Path("cohort"), metavar="DIR", help=_TABLES)
    drift.add_argument(
        "--reference", type=int, default=100, metavar="N", help="first values that say what is usual (default: 100)"
    )
    drift.add_argument("--out", type=Path, metavar="DIR", help="folder for report.html and report.json")
    drift.add_argument("--viewer", metavar="URL", help="as for report")


def _which(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("sql", nargs="?", metavar="SQL", help="one SELECT")
    sub.add_argument("--named", metavar="NAME", help="a ready query instead")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the query ($NAME)")
    sub.add_argument("--tables", type=Path, default=Path("cohort"), metavar="DIR", help=_TABLES)


def build_tables(desk: Desk) -> int:
    """Build or renew the tables."""
    import dataclasses

    from orthanc_plugin.cohort.build import build

    options = desk.options
    desk.acts(What.EXPORT, archive=options.archive or "")
    with _source(desk) as source, _jobs(desk) as jobs, counted(desk, "objects") as progress:
        built = build(source, options.out, jobs=jobs, progress=progress)
    lines = [f"{rows:>9,} rows: {name}" for name, rows in built.rows.items()]
    desk.say(
        dataclasses.asdict(built) | {"tables": str(options.out)},
        f"read {built.read} objects, {built.known} known, {built.gone} gone", *lines, f"digest {built.digest}",
    )  # fmt: skip
    return EXIT_DONE


@contextmanager
def _source(desk: Desk) -> Iterator[Source]:
    from orthanc_plugin.archive.dicomweb import open_dicomweb
    from orthanc_plugin.cohort.sources import ArchiveSource
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.jobs.orders import parse_query
    from orthanc_plugin.jobs.pseudonym import patient_column

    options, patient = desk.options, patient_column(desk.configuration)
    if options.folder is not None:
        yield _folder_source(desk, options.folder)
        return
    settings = _settings(desk, options.archive)
    if settings.folder is not None:
        yield _folder_source(desk, settings.folder)
        return
    if settings.dimse is not None:
        raise ConfigError(f"archive {options.archive} is a DICOM node: tables are built over DICOMweb or of a folder")
    query = parse_query(options.query) if options.query else {}
    with closing(open_dicomweb(options.archive, settings)) as archive:
        yield ArchiveSource(archive, patient, query)


def _folder_source(desk: Desk, folder: Path) -> Source:
    from orthanc_plugin.cohort.sources import FolderSource
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.jobs.pseudonym import patient_column

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if desk.options.query:
        raise ConfigError("--query needs an archive behind DICOMweb")
    return FolderSource(folder, patient_column(desk.configuration), tables=desk.options.out)


def _settings(desk: Desk, name: str) -> ArchiveSettings:
    from orthanc_plugin.errors import ConfigError

    if name not in desk.configuration.archives:
        raise ConfigError(f"the configuration has no archive {name}")
    return desk.configuration.archives[name]


@contextmanager
def _jobs(desk: Desk) -> Iterator[Callable[[], Iterator[tuple[str, list[Cell]]]]]:
    """Give what reads the job database; nothing for a folder, or where there is no database."""
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    try:
        if desk.options.archive:
            check_database(desk.configuration)
    except ConfigError as error:
        desk.tell(f"jobs and deliveries stay empty: {error}")
        yield lambda: iter(())
        return
    if not desk.options.archive:
        yield lambda: iter(())
        return
    from orthanc_plugin.cohort.job_rows import rows_of_jobs

    with closing(JobQueue(desk.configuration.database)) as queue:
        yield lambda: rows_of_jobs(queue, desk.options.archive)


@contextmanager
def counted(desk: Desk, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far a command is, on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=desk.messages, disable=not desk.messages.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def query_tables(desk: Desk) -> int:
    """Run a query and show or write what it found."""
    from orthanc_plugin.cohort.export import as_records, export
    from orthanc_plugin.cohort.query import opened, run

    options = desk.options
    if options.list:
        return _list(desk)
    sql, parameters = _asked(desk)
    with opened(options.tables) as connection:
        found = run(connection, sql, parameters)
    if options.out is not None:
        export(found, options.out)
        desk.say({"rows": found.num_rows, "file": str(options.out)})
    elif options.json:
        desk.print_json(as_records(found))
    else:
        _show(desk, found)
    return EXIT_DONE


def _asked(desk: Desk) -> tuple[str, dict[str, object]]:
    """Return the query and its values."""
    from orthanc_plugin.cohort.named import named_query
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if (options.sql is None) == (options.named is None):
        raise ConfigError('name a query: one SELECT, or --named NAME; see "cohort query --list"')
    named = named_query(options.named) if options.named else None
    values: dict[str, object] = dict(named.parameters) if named else {}
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write it as NAME=VALUE")
        if named and name not in values:
            raise ConfigError(f"--set {name}: the query has no such value; it has {', '.join(values) or 'none'}")
        values[name] = _value(value)
    return (named.sql if named else options.sql), values


def _value(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _list(desk: Desk) -> int:
    from orthanc_plugin.cohort.named import NAMED
    from orthanc_plugin.cohort.schema import KEYS_OF_WIDE, TABLES

    tables = {table.name: [*table.names] for table in (*TABLES.values(), KEYS_OF_WIDE)}
    queries = {query.name: {"text": query.text, "values": dict(query.parameters)} for query in NAMED.values()}
    lines = [f"{name}: {query.text}" for name, query in NAMED.items()]
    lines += ["", *(f"{name}({', '.join(columns)})" for name, columns in tables.items())]
    desk.say({"queries": queries, "tables": tables}, *lines)
    return EXIT_DONE


def _show(desk: Desk, found: pyarrow.Table) -> None:
    from rich.table import Table

    shown = Table(box=None, header_style="bold")
    for name in found.column_names:
        shown.add_column(name, overflow="fold")
    for row in found.slice(0, _SHOWN).to_pylist():
        shown.add_row(*(_plain(value) for value in row.values()))
    desk.console.print(shown)
    rest = found.num_rows - _SHOWN
    desk.console.print(f"{found.num_rows} rows" + (f"; {rest} more: add --out FILE" if rest > 0 else ""))


def _plain(value: object) -> str:
    from rich.markup import escape

    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def send_cohort(desk: Desk) -> int:
    """Send the series of a query to a backfill, a folder, an archive, or mark them."""
    from orthanc_plugin.cohort.choice import chosen
    from orthanc_plugin.errors import EnrichError

    options = desk.options
    cohort = chosen(options.tables, *_asked(desk), old=options.old)
    results = () if options.no_results or options.backfill or options.tag else cohort.results
    if options.dry_run:
        desk.say({"series": len(cohort.series), "results": len(results)})
        return EXIT_DONE
    if not cohort.series:
        raise EnrichError("the query names no series that the tables have")
    what = What.ACT if options.backfill or options.tag else What.EXPORT
    desk.acts(what, *(uid for _, uid in cohort.series), archive=options.archive if options.source is None else "")
    if options.backfill:
        return _backfill(desk, cohort.series)
    if options.tag:
        return _tag(desk, cohort.series)
    return _copy(desk, (*cohort.series, *results))


def _backfill(desk: Desk, series: tuple[tuple[str, str], ...]) -> int:
    from orthanc_plugin.cli.backfill import follow
    from orthanc_plugin.jobs.orders import Orders
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.jobs.state import check_database

    options = desk.options
    _settings(desk, options.archive)
    check_database(desk.configuration)
    with closing(JobQueue(desk.configuration.database)) as queue:
        order = Orders(queue.ledger).place_list(options.archive, series, f"{len(series)} series of a cohort")
        options.no_wait = True
        return follow(desk, queue, order)


def _tag(desk: Desk, series: tuple[tuple[str, str], ...]) -> int:
    from orthanc_plugin.archive.orthanc_marks import OrthancMarks

    options = desk.options
    with closing(OrthancMarks(options.archive, _settings(desk, options.archive))) as marks:
        kind = marks.kind()
        missing = [uid for study, uid in series if not marks.mark(study, uid, options.tag, kind)]
    desk.say({"marked": len(series) - len(missing), "as": str(kind), "missing": missing})
    return EXIT_FAILED if missing else EXIT_DONE


def _copy(desk: Desk, places: tuple[tuple[str, str], ...]) -> int:
    import dataclasses

    from orthanc_plugin.archive.opening import open_archive
    from orthanc_plugin.archive.tree import open_tree
    from orthanc_plugin.cohort.choice import copy

    options = desk.options
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        target = open_tree("folder", options.folder)
    else:
        target = open_archive(options.to, _settings(desk, options.to))  # type: ignore[assignment]
    with closing(_origin(desk)) as source, closing(target), counted(desk, "series", len(places)) as progress:
        copied = copy(places, source, target, progress)
    desk.say(dataclasses.asdict(copied))
    return EXIT_FAILED if copied.missing else EXIT_DONE


def _origin(desk: Desk) -> Archive:
    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.archive.opening import open_archive
    from orthanc_plugin.errors import ConfigError

    source = desk.options.source
    if source is None:
        return open_archive(desk.options.archive, _settings(desk, desk.options.archive))
    if not source.is_dir():
        raise ConfigError(f"{source} is not a folder")
    return FolderArchive(source, source / "out")


def write(desk: Desk) -> int:
    """Write the report of tables, of CSV files, or of both."""
    from orthanc_plugin.cohort.findings import figures_of, summaries_of
    from orthanc_plugin.cohort.metrics import read_metrics
    from orthanc_plugin.cohort.points import addresser
    from orthanc_plugin.cohort.report import Report, numbers_of, write_report
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if not (options.tables or options.metrics):
        raise ConfigError("name --tables DIR, --metrics CSV, or both")
    address = addresser(_viewer(desk))
    read = [read_metrics(file, address) for file in options.metrics]
    figures = [figure for table in read for figure in table.figures]
    summaries: list[Summary] = []
    if options.tables:
        figures += figures_of(options.tables, address)
        summaries += summaries_of(options.tables)
    sources = (*(file.name for file in options.metrics), *(["tables"] if options.tables else []))
    left_out = {why: count for table in read for why, count in table.left_out.items()}
    report = Report(options.title, sources, tuple(figures), tuple(summaries), left_out)
    page = write_report(report, options.out)
    lines = [f"{figure.title}, {group.name}: median {group.median:.4g} {figure.unit} (n = {group.count})".strip()
             for figure in figures for group in figure.groups]  # fmt: skip
    desk.say(numbers_of(report) | {"page": str(page)}, *lines, f"page: {page}")
    return EXIT_DONE


def _viewer(desk: Desk) -> str:
    """Return the address at which a series opens: as asked for, as configured, or that of the service."""
    from orthanc_plugin.config.base import viewer_address
    from orthanc_plugin.errors import ConfigError

    configuration = desk.configuration
    chosen = desk.options.viewer or configuration.viewer.url
    if not chosen:
        service = configuration.service
        root = service.url or f"http://{service.host}:{service.port}"
        chosen = f"{root}/enrichment/open?StudyInstanceUID={{StudyInstanceUID}}&SeriesInstanceUID={{SeriesInstanceUID}}"
    try:
        return viewer_address(chosen)
    except ValueError:
        raise ConfigError("--viewer is not the address of a viewer: http(s)://... with {StudyInstanceUID}") from None


def watch(desk: Desk) -> int:
    """Look for drift, and say which groups raised an alarm."""
    from orthanc_plugin.cohort.drift import drift_report
    from orthanc_plugin.cohort.points import addresser
    from orthanc_plugin.cohort.report import numbers_of, write_report
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if options.reference < 10:
        raise ConfigError("--reference must be 10 or more")
    report = drift_report(options.tables, addresser(_viewer(desk)), options.reference)
    facts = numbers_of(report)
    if options.out is not None:
        facts["page"] = str(write_report(report, options.out))
    shown = [one for one in report.summaries if one.title != "Failed checks by month"]
    lines = [f"{one.title}: " + "; ".join(f"{h} {c}" for h, c in zip(one.heads, row, strict=True))
             for one in shown for row in one.rows]  # fmt: skip
    desk.say(facts, *lines)
    return EXIT_DONE
