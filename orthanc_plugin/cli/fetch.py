"""The command `orthanc-enrich fetch idc`: series of public collections, first as a table, then into an archive."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, Commands, Desk

if TYPE_CHECKING:
    import pyarrow

    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.cohort.idc import Wanted

_SHOWN = 20


def add_commands(commands: Commands) -> None:
    """Add `fetch idc`."""
    text = "list series of a collection of NCI Imaging Data Commons, and download them into an archive"
    idc = commands.add("idc", fetch_idc, text)
    idc.add_argument("--collection", default="", metavar="ID", help="collection, such as nsclc_radiomics")
    which = idc.add_mutually_exclusive_group()
    which.add_argument(
        "--where", default="", metavar="SQL", help="a condition on the index, such as \"Modality = 'CT'\""
    )
    which.add_argument("--named", default="", metavar="NAME", help="a ready condition; an unknown name lists them")
    which.add_argument("--uids", type=Path, metavar="FILE", help="a file with one SeriesInstanceUID a line")
    idc.add_argument("--limit", type=int, default=0, metavar="N", help="at most so many series")
    target = idc.add_mutually_exclusive_group()
    target.add_argument("--archive", default="local", metavar="NAME", help="archive that gets them (default: local)")
    target.add_argument("--folder", type=Path, metavar="DIR", help="folder that gets them instead")
    idc.add_argument(
        "--cache", type=Path, default=Path("idc"), metavar="DIR", help="what is done, and what is on its way"
    )
    idc.add_argument("--dry-run", action="store_true", help="only the table")


def fetch_idc(desk: Desk) -> int:
    """Show what there is, then fetch it."""
    from orthanc_plugin.cli.cohort import counted
    from orthanc_plugin.cohort.idc import check_network, fetch, listed_in, missing, table_of

    table = table_of(_wanted(desk))
    _show(desk, table)
    # A large collection has 600,000 series: only machines are told all of them.
    facts: dict[str, object] = {"series": table.drop_columns(["aws_bucket"]).to_pylist() if desk.options.json else ()}
    if desk.options.dry_run or not table.num_rows:
        desk.say(facts, "nothing was fetched" if table.num_rows else "no series match")
        return EXIT_DONE
    wanted = listed_in(table)
    options, cache = desk.options, desk.options.cache
    archive, target = _target(desk)
    left = missing(wanted, cache, target)
    with closing(archive):
        check_network([one.bucket for one in left])
        if left:
            desk.acts(What.STORE, *(one.series for one in left), archive="" if options.folder else options.archive)
        with counted(desk, "series", len(wanted)) as progress:
            fetched = fetch(wanted, cache, archive, target, progress=progress)
    desk.say(facts | {"fetched": fetched}, f"fetched {fetched} series; {len(wanted) - fetched} were there")
    return EXIT_DONE


def _wanted(desk: Desk) -> Wanted:
    from orthanc_plugin.cohort.idc import NAMED, Wanted, uids_of
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if options.named and options.named not in NAMED:
        raise ConfigError(f"there is no ready condition {options.named}; there are: {', '.join(NAMED)}")
    if options.limit < 0:
        raise ConfigError("--limit must be a number from 0; 0 means all")
    uids = uids_of(options.uids.read_text().splitlines()) if options.uids else ()
    return Wanted(options.collection, options.where or NAMED.get(options.named, ""), uids, options.limit)


def _show(desk: Desk, table: pyarrow.Table) -> None:
    """Tell what the table holds: on stderr, so that stdout holds one JSON text."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, header_style="bold")
    for name in ("PatientID", "SeriesInstanceUID", "Modality", "instanceCount", "series_size_MB", "license_short_name"):
        shown.add_column(name, overflow="fold")
    for row in table.slice(0, _SHOWN).to_pylist():
        size = f"{row['series_size_MB']:.1f}"
        cells = (row["PatientID"], row["SeriesInstanceUID"], row["Modality"], row["instanceCount"], size)
        shown.add_row(*(escape(str(cell)) for cell in (*cells, row["license_short_name"])))
    desk.messages.print(shown)
    licences = Counter(map(str, table["license_short_name"].to_pylist()))
    told = ", ".join(f"{count} under {licence}" for licence, count in licences.most_common())
    size_gb = sum(table["series_size_MB"].to_pylist()) / 1000
    desk.tell(f"{table.num_rows:,} series, {size_gb:.2f} GB" + (f"; {told}" if licences else ""))


def _target(desk: Desk) -> tuple[Archive, str]:
    """Open where the series go; what is done is listed under the name beside it."""
    from orthanc_plugin.archive.opening import open_archive
    from orthanc_plugin.archive.tree import open_tree
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        return open_tree("folder", options.folder), f"folder {options.folder.resolve()}"
    if options.archive not in desk.configuration.archives:
        raise ConfigError(f"the configuration has no archive {options.archive}")
    return open_archive(options.archive, desk.configuration.archives[options.archive]), f"archive {options.archive}"
