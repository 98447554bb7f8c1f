"""The parts of docs/scaling.md and docs/performance.md that commands write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.machine import machine

PAGE, PERFORMANCE = (Path(__file__).resolve().parents[2] / "docs" / name for name in ("scaling.md", "performance.md"))


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = (heads, ("---",) * len(heads), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_part(name: str, text: str, *, measured: bool = True, page: Path = PAGE) -> None:
    """Write a part between its marks; what was measured with date and computer."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    where = f"\nMeasured on {datetime.now(UTC).date()}: {machine()}.\n\n" if measured else "\n"
    body = f"{start}{text}{where}{end}"
    text = page.read_text()
    assert start in text, name
    page.write_text(re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: body, text, flags=re.DOTALL))
