"""The results of the campaign as they are kept, and the table of docs/faults.md that is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.campaign.cases import CASES, Outcome

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "faults.md"
MARKS = ("<!-- campaign -->\n", "<!-- end of campaign -->")
_HEADS = ("case", "repetitions", "series", "lost", "doubled", "orphans", "figures", "minutes", "date")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. machine: the computer in plain words."""

    case: str
    repetitions: int
    series: int
    lost: int
    doubled: int
    orphans: int
    figures: str
    minutes: float
    date: str
    machine: str

    @classmethod
    def of(cls, case: str, outcome: Outcome, minutes: float, date: str, machine: str) -> Line:
        """Make the line of an outcome."""
        census = outcome.census
        return cls(
            case, outcome.repetitions, census.sent, census.lost, census.doubled, census.orphans, outcome.figures,
            round(minutes, 1), date, machine,
        )  # fmt: skip


def kept() -> list[Line]:
    """Read the kept results, in the order of the cases."""
    found = [Line(**row) for row in json.loads(RESULTS.read_text())] if RESULTS.exists() else []
    return sorted(found, key=lambda line: [*CASES].index(line.case))


def keep(line: Line) -> None:
    """Keep a line in place of an earlier one of the same case."""
    rows = [asdict(row) for row in (*(old for old in kept() if old.case != line.case), line)]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def table(lines: Iterable[Line]) -> str:
    """Write lines as a Markdown table."""
    rows = (
        (
            line.case, line.repetitions, line.series, line.lost, line.doubled, line.orphans, line.figures,
            f"{line.minutes:.1f}", line.date,
        )
        for line in lines
    )  # fmt: skip
    cells = [_HEADS, ("---",) * len(_HEADS), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cells) + "\n"


def section(lines: list[Line]) -> str:
    """Write what stands between the marks of the page."""
    machines = dict.fromkeys(line.machine for line in lines)
    return f"{table(lines)}\nMeasured on: {'; '.join(machines)}. Other programs ran at the same time.\n"


def write_page() -> None:
    """Write the kept results into the page."""
    start, end = map(re.escape, MARKS)
    body = f"{MARKS[0]}{section(kept())}{MARKS[1]}"
    PAGE.write_text(re.sub(f"{start}.*?{end}", lambda _: body, PAGE.read_text(), flags=re.DOTALL))
