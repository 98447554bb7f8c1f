"""One cell of the conformance matrix as a test."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.cases import Case
from tests.conformance.kinds import KINDS, check
from tests.conformance.table import CELL

Record = Callable[[str, object], None]


def cell(case: Case, kind: str, record: Record, *, every_reader: bool = True) -> None:
    """Check an object and report the result; a failing cell is reported as failed."""
    said = ""
    try:
        said = check(case, KINDS[kind], every_reader=every_reader)
    finally:
        record(CELL, f"{case.name}|{kind}|{said}")
