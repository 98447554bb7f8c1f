"""Read attributes of source headers as text, whatever they hold."""

from __future__ import annotations

import re

import pydicom.config
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def raw_text(source: Dataset, keyword: str) -> str | None:
    """Read a value as text, with backslashes between several values; None if it cannot be parsed."""
    try:
        with pydicom.config.disable_value_validation():
            value = source.get(keyword)
    except ValueError:  # a DS that is not a number
        return None
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)
    return text.strip(" \0")


def has_control_characters(text: str) -> bool:
    """Tell whether a text holds characters that no short text of DICOM may hold."""
    return _CONTROL.search(text) is not None


def plain_text(text: str) -> str:
    """Remove control characters. Identifiers are never cut, since the rest could belong to somebody else."""
    return _CONTROL.sub("", text).strip()


def whole_number(source: Dataset, keyword: str) -> int | None:
    """Read an integer; None if there is none."""
    text = raw_text(source, keyword) or ""
    return int(text) if re.fullmatch(r"[+-]?\d{1,11}", text) else None
