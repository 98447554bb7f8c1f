"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from orthanc_plugin.jobs import queue


@pytest.fixture(autouse=True)
def _impatient_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine ask its database often, so that a test of a delivery does not wait for the next look."""
    monkeypatch.setattr(queue, "POLL_S", 0.2)
    monkeypatch.setattr(queue, "PATIENT_POLL_S", 0.1)
