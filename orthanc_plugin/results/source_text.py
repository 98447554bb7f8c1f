"""Read attributes of source headers as text, whatever they hold."""

from __future__ import annotations

import re

import pydicom.config
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE = re.compile(r"\x1b[\x20-\x2f]+[\x30-\x7e]")
"""A switch of the character set (PS3.5 6.1.2.5.3) that decoding left in a text: pydicom does so with ISO 2022 IR 58."""

_ASCII_TERMS = ("", "ISO_IR 6", "ISO 2022 IR 6")


def raw_text(source: Dataset, keyword: str) -> str | None:
    """Read a value as text, with backslashes between several values; None if it cannot be parsed."""
    try:
        with pydicom.config.disable_value_validation():
            value = source.get(keyword)
    except ValueError:  # a DS that is not a number
        return None
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)
    return _ESCAPE.sub("", text if _is_charset_told(source) else _as_utf_8(text)).strip(" \0")


def _is_charset_told(source: Dataset) -> bool:
    """Tell whether a SpecificCharacterSet that exists says how texts are written."""
    told = source.get("SpecificCharacterSet")
    terms = told if isinstance(told, MultiValue | list) else [told or ""]
    return any(str(term) not in _ASCII_TERMS and str(term) in python_encoding for term in terms)


def _as_utf_8(text: str) -> str:
    """Read a text that pydicom took for Latin-1 as UTF-8, if it is that: no text in Latin-1 looks like it by chance."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def has_control_characters(text: str) -> bool:
    """Tell whether a text holds characters that no short text of DICOM may hold."""
    return _CONTROL.search(text) is not None


def plain_text(text: str) -> str:
    """Remove control characters. Identifiers are never cut, since the rest could belong to somebody else."""
    return _CONTROL.sub("", _ESCAPE.sub("", text)).strip()


def whole_number(source: Dataset, keyword: str) -> int | None:
    """Read an integer; None if there is none."""
    text = raw_text(source, keyword) or ""
    return int(text) if re.fullmatch(r"[+-]?\d{1,11}", text) else None
