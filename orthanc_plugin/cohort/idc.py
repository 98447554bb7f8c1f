"""Public collections: NCI Imaging Data Commons by its index, which the package `idc-index` brings along.

The table comes from the index alone and needs no network. Series are then downloaded one by one into a folder, stored
in an archive, and noted as done, so that a download that was broken off goes on.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import httpx
from pydantic import TypeAdapter

from orthanc_plugin.archive.part10 import Damaged, NotDicom, read_instance
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.cohort.query import locked, run
from orthanc_plugin.cohort.tables import MISSING
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.errors import ConfigError, IncompleteError, QueryError, TransientError

if TYPE_CHECKING:
    import pyarrow

COLUMNS = (
    "collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription",
    "instanceCount", "series_size_MB", "license_short_name", "source_DOI", "analysis_result_id",
)  # fmt: skip
"""Columns of the index that the table shows."""

NAMED: Mapping[str, str] = MappingProxyType(
    {
        "sci-data-2024-nsclc": "collection_id = 'nsclc_radiomics' AND Modality = 'CT'",
        "sci-data-2024-nlst": "collection_id = 'nlst' AND Modality = 'CT' AND instanceCount > 100",
        "sci-data-2024-results": "analysis_result_id = 'nnu_net_bpr_annotations'",
        "ct": "Modality = 'CT'",
        "totalsegmentator": "analysis_result_id ILIKE '%totalsegmentator%'",
    }
)
"""Ready conditions. The two selections of the study hold what the index knows: collection, modality, number of images.

Its other criteria (thickness, spacing, orientation, images per position) are those of the rule sets
`sci_data_2024_nsclc` and `sci_data_2024_nlst`, which skip a series that does not meet them.
"""

DONE = "fetched.json"
_LISTS = TypeAdapter(dict[str, list[str]])
_PROBE_S = 10.0
_HOST = "https://{}.s3.amazonaws.com/"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the index. where: a condition in SQL on its columns. limit: most series; 0 for all."""

    collection: str = ""
    where: str = ""
    uids: tuple[str, ...] = ()
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """One series of the index."""

    series: str
    bucket: str
    instances: int


class Download(Protocol):
    """Downloads one series into a folder."""

    def __call__(self, series: str, folder: Path) -> None:
        """Raise TransientError if it does not work."""
        ...


def table_of(wanted: Wanted) -> pyarrow.Table:
    """Look up the series that match in the bundled index, ordered by patient, study and series.

    Raises
    ------
    ConfigError
        If idc-index is missing, the collection is unknown, or nothing is asked for.
    QueryError
        If the condition cannot be run.
    """
    if not (wanted.collection or wanted.where or wanted.uids):
        raise ConfigError("name a collection, a condition or a list of series: the whole index is not fetched")
    index = _index_file()
    sql = f"""
        SELECT {", ".join(COLUMNS)}, aws_bucket FROM idc
        WHERE ($collection = '' OR collection_id = $collection)
          AND (len($uids) = 0 OR SeriesInstanceUID IN (SELECT unnest($uids)))
          AND ({_condition(wanted.where)})
        ORDER BY PatientID, StudyInstanceUID, SeriesInstanceUID LIMIT $most
    """  # nosec B608  # noqa: S608  # the connection is locked, and the condition is checked to be one
    values = {"collection": wanted.collection, "uids": [*wanted.uids], "most": wanted.limit or 10_000_000}
    with locked({"idc": index}) as connection:
        known = run(connection, "SELECT count(*) AS n FROM idc WHERE collection_id = $c", {"c": wanted.collection})
        if wanted.collection and not known["n"][0].as_py():
            raise ConfigError(f"the index of IDC has no collection {wanted.collection}")
        return run(connection, sql, values)


def listed_in(table: pyarrow.Table) -> list[Listed]:
    """Return the series of a table."""
    columns = (table[name].to_pylist() for name in ("SeriesInstanceUID", "aws_bucket", "instanceCount"))
    return [Listed(str(uid), str(bucket), int(count)) for uid, bucket, count in zip(*columns, strict=True)]


def uids_of(lines: Sequence[str]) -> tuple[str, ...]:
    """Read one SeriesInstanceUID a line; raise ConfigError for a line that holds something else."""
    found = [text for line in lines if (text := line.partition("#")[0].strip())]
    if not found or not all(map(is_uid, found)):
        raise ConfigError("the file must hold one SeriesInstanceUID a line")
    return tuple(dict.fromkeys(found))


def check_network(buckets: Sequence[str]) -> None:
    """Ask each bucket for an answer, whatever it is.

    Raises
    ------
    TransientError
        If one cannot be reached.
    """
    for bucket in dict.fromkeys(buckets):
        try:
            httpx.head(_HOST.format(bucket), timeout=_PROBE_S)
        except httpx.HTTPError as error:
            raise TransientError(
                f"the public bucket {bucket} of IDC cannot be reached ({type(error).__name__}): the table comes from"
                " the bundled index, and a download needs the network; the same command goes on later"
            ) from None


def download_by_idc(series: str, folder: Path) -> None:
    """Download one series by idc-index.

    Raises
    ------
    TransientError
        If it breaks off.
    """
    from subprocess import SubprocessError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from idc_index.index import IDCClient

            client: Any = IDCClient.client()
        client.download_from_selection(
            downloadDir=str(folder), seriesInstanceUID=[series], dirTemplate=None, quiet=True, show_progress_bar=False
        )
    except (OSError, SubprocessError, ValueError) as error:
        raise TransientError(f"the download of {series} broke off: {type(error).__name__}") from error


def missing(wanted: Sequence[Listed], cache: Path, target: str) -> list[Listed]:
    """Return the series that the list of a cache does not name as done for a target."""
    done = frozenset(_done(cache).get(target, ()))
    return [one for one in wanted if one.series not in done]


def fetch(
    wanted: Sequence[Listed], cache: Path, archive: Archive, target: str, download: Download = download_by_idc,
    progress: Callable[[int], None] = lambda done: None,
) -> int:  # fmt: skip
    """Download series into a folder and store them in an archive; return how many were fetched now.

    Parameters
    ----------
    wanted : sequence of Listed
    cache : Path
        Holds the series that is downloaded now, and for each target the list of those that are done.
    archive : Archive
        Where they go.
    target : str
        Name of the archive or folder, as the list calls it.
    download : callable
    progress : callable
        Is told the number of series that are done.

    Raises
    ------
    TransientError
        If the network or the archive goes away; the next call goes on.
    IncompleteError
        If a series has fewer images than the index says.
    """
    cache.mkdir(parents=True, exist_ok=True)
    done = _done(cache)
    open_series = missing(wanted, cache, target)
    there = len(wanted) - len(open_series)
    progress(there)
    for number, one in enumerate(open_series, 1):
        _fetch_one(one, cache / one.series, archive, download)
        done.setdefault(target, []).append(one.series)
        _keep_done(cache, done)
        progress(there + number)
    return len(open_series)


def _fetch_one(one: Listed, folder: Path, archive: Archive, download: Download) -> None:
    folder.mkdir(exist_ok=True)
    if len([*_files(folder)]) != one.instances:
        download(one.series, folder)
    if (there := len([*_files(folder)])) != one.instances:
        raise IncompleteError(f"{there} of {one.instances} files of {one.series} came; the same command tries again")
    for file in _files(folder):
        try:
            archive.store(read_instance(file))
        except (Damaged, NotDicom):
            file.unlink()
            raise IncompleteError(f"a file of {one.series} is damaged; the same command fetches it again") from None
    shutil.rmtree(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*.dcm")) if file.is_file())


def _done(cache: Path) -> dict[str, list[str]]:
    try:
        return _LISTS.validate_json((cache / DONE).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ConfigError(f"{cache / DONE} is damaged; delete it to fetch everything again") from None


def _keep_done(cache: Path, done: dict[str, list[str]]) -> None:
    part = cache / f"{DONE}.part"
    part.write_text(json.dumps(done, indent=0))
    part.replace(cache / DONE)


def _condition(where: str) -> str:
    """Check that a text is one condition, so that it cannot close the bracket in which it stands."""
    if not where.strip():
        return "true"
    import duckdb

    try:
        with duckdb.connect() as connection:
            connection.execute("SET enable_external_access = false")
            (statement,) = connection.extract_statements(f"SELECT 1 WHERE (\n{where}\n)")
            (alone,) = connection.extract_statements(f"SELECT {where}\n")
        if statement.type != duckdb.StatementType.SELECT or alone.type != duckdb.StatementType.SELECT:
            raise QueryError("a condition is one expression on the columns of the index")
    except (duckdb.Error, ValueError) as error:
        text = str(error).strip() if isinstance(error, duckdb.Error) else "a condition is one expression"
        raise QueryError(f"the condition cannot be run: {text}") from None
    return f"\n{where}\n"


def _index_file() -> Path:
    try:
        from idc_index_data import IDC_INDEX_PARQUET_FILEPATH
    except ModuleNotFoundError:
        raise ConfigError(MISSING) from None
    return Path(str(IDC_INDEX_PARQUET_FILEPATH))
