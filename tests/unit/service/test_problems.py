"""What the service tells Orthanc's plugin of itself: each change once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from orthanc_plugin.service import main


class Health:
    """Gives one finding after another, or fails."""

    def __init__(self, findings: Sequence[str | Exception]) -> None:
        self.findings = list(findings)

    async def look(self) -> str:
        finding = self.findings.pop(0)
        if isinstance(finding, Exception):
            raise finding
        return finding


class Stopping(threading.Event):
    """Ends after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def wait(self, timeout: float | None = None) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_each_change_is_told_once_and_a_look_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "problems_of", lambda finding: finding)
    findings = ["", "archive far: 401", "archive far: 401", OSError(5, "Patient^Name"), "", ""]
    told: list[str] = []
    main.report_problems(Health(findings), told.append, Stopping(len(findings)))  # type: ignore[arg-type]
    assert [text.partition(" at ")[0] for text in told] == [
        "archive far: 401",
        "the health cannot be looked at: OSError",
        "",
    ]
    assert "Patient" not in "".join(told)
