"""The parts of docs/scaling.md that commands write."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.campaign.table import machine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"


def write_part(name: str, text: str) -> None:
    """Write a part between its marks, with date and computer."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    body = f"{start}{text}\nMeasured on {datetime.now(UTC).date()}: {machine()}.\n\n{end}"
    page = PAGE.read_text()
    assert start in page, name
    PAGE.write_text(re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _: body, page, flags=re.DOTALL))
