"""The part of an unexpected error that may be written down: its kind and place. Its text could hold patient data."""

from __future__ import annotations

import traceback
from pathlib import Path

from orthanc_plugin.errors import EnrichError


def describe(error: BaseException) -> str:
    """Describe an error in one line for a log or the health page. Only our own errors keep their text."""
    if isinstance(error, EnrichError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
