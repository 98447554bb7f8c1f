"""The numbers of a job's radiomics reports as a table to search and to sort. Each value is that of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from starlette.exceptions import HTTPException
from starlette.requests import Request

from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.jobs.numbers import StoredResults
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.scans import Kept
from orthanc_plugin.results.sr.radiomics_table import TableRow

QUERY = ("text", "structure", "image", "sort", "page")
ROWS = 100
_COLUMNS = {
    "": lambda row: 0,  # the order of the report
    "structure": lambda row: (row.label, row.image),
    "feature": lambda row: row.meaning.casefold(),
    "value": lambda row: row.value if row.value is not None else -inf,
    "unit": lambda row: row.unit,
    "image": lambda row: row.image,
}
_ROW_BYTES = 1500
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks of the table. sort: a column, after `-` for the greatest first; page: from 1."""

    text: str = ""
    structure: str = ""
    image: str = ""
    sort: str = ""
    page: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A page of the table.

    found: rows that match. pages: how many pages they take. structures, images: what one can choose.
    """

    rows: tuple[TableRow, ...]
    found: int
    pages: int
    structures: tuple[str, ...]
    images: tuple[str, ...]


def wanted_of(request: Request) -> Wanted:
    """Read the query; raise 400 for a column or a page that cannot be."""
    query = request.query_params
    sort, page = query.get("sort", ""), query.get("page", "") or "1"
    if sort.removeprefix("-") not in _COLUMNS:
        raise HTTPException(400, f"sort: must be one of {', '.join(name for name in _COLUMNS if name)}")
    if not (page.isascii() and page.isdigit() and len(page) < 6 and int(page) > 0):
        raise HTTPException(400, "page: must be a number from 1 to 99999")
    return Wanted(query.get("text", ""), query.get("structure", ""), query.get("image", ""), sort, int(page))


def choose(rows: Sequence[TableRow], wanted: Wanted) -> Measured:
    """Choose the rows of a page. All words of the text must be in a row's structure, model, feature, code or unit."""
    words = wanted.text.casefold().split()
    found = [
        row
        for row in rows
        if wanted.structure in ("", row.label)
        and wanted.image in ("", row.image)
        and all(word in _text(row) for word in words)
    ]
    column = wanted.sort.removeprefix("-")
    if column:
        found.sort(key=_COLUMNS[column], reverse=wanted.sort.startswith("-"))
    pages = max(1, -(-len(found) // ROWS))
    first = (min(wanted.page, pages) - 1) * ROWS
    structures, images = (tuple(dict.fromkeys(one)) for one in ((r.label for r in rows), (r.image for r in rows)))
    return Measured(tuple(found[first : first + ROWS]), len(found), pages, structures, images)


def _told_apart(rows: tuple[TableRow, ...]) -> tuple[TableRow, ...]:
    names = told_apart([(row.label, row.model) for row in rows])
    return tuple(replace(row, label=name) for row, name in zip(rows, names, strict=True))


def _text(row: TableRow) -> str:
    texts = (row.label, row.model, row.meaning, row.feature, row.scheme, row.code, row.unit, row.image, row.reason)
    return " ".join(texts).casefold()


class Radiomics:
    """Reads the reports of jobs and keeps the numbers that were asked for last."""

    def __init__(self, queue: JobQueue, results: StoredResults) -> None:
        self._queue, self._results = queue, results
        self._kept: Kept[tuple[str, ...], tuple[TableRow, ...]] = Kept(_KEPT_BYTES, lambda r: len(r) * _ROW_BYTES)

    def rows(self, job_id: str) -> tuple[TableRow, ...]:
        """Return all numbers of a job; raise as `StoredResults.radiomics`.

        The model follows a label that several models have.
        """
        stored = tuple(item.sop_instance_uid for item in self._queue.show(job_id).objects)
        key = (job_id, *stored)
        rows = self._kept.get(key)
        if rows is None:
            rows = _told_apart(self._results.radiomics(job_id))
            self._kept.put(key, rows)
        return rows
