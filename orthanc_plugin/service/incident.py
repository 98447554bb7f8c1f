"""What of an unexpected error may be written down: its kind and place. Its text could hold patient data."""

from __future__ import annotations

from pathlib import Path

from orthanc_plugin.errors import EnrichError


def describe(error: BaseException) -> str:
    """One line for a log or a health page; only our own errors keep their text."""
    if isinstance(error, EnrichError):
        return f"{type(error).__name__}: {error}"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place
