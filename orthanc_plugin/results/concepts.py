"""Coded concepts as highdicom expects them."""

from __future__ import annotations

from highdicom.sr import CodedConcept

from orthanc_plugin.codes import Code


def concept(code: Code) -> CodedConcept:
    """Convert a code to highdicom's type."""
    return CodedConcept(code.value, code.scheme, code.meaning)
