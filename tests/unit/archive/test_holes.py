"""Versions of Orthanc and their published holes."""

from __future__ import annotations

import re

import pytest

from orthanc_plugin.archive.holes import HOLES, RECOMMENDED, holes_of, warning_of


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("1.10.1", 11), ("1.11.3", 11), ("1.12.0", 10), ("1.12.7", 10), ("1.12.10", 10), ("1.12.11", 1), ("1.12.12", 1),
        ("1.13.0", 0), ("1.13.0-rc1", 0), ("2.0.0", 0), ("mainline", 0), ("", 0), ("1.13", 0), ("10.1.1", 0),
    ],
)  # fmt: skip
def test_holes_of_a_version(version: str, number: int) -> None:
    assert len(holes_of(version)) == number
    assert bool(warning_of(version)) is (number > 0)


def test_the_warning_names_what_to_do() -> None:
    assert "CVE-2026-10528): install 1.13.0 or newer" in warning_of("1.12.11")
    assert "CVE-2026-5437 and 9 more" in warning_of("1.12.7")
    assert warning_of(RECOMMENDED) == ""


def test_every_hole_has_a_number_and_a_source_and_stands_once() -> None:
    names = [hole.name for hole in HOLES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"CVE-\d{4}-\d{4,}", name) for name in names)
    assert all(hole.source and hole.what for hole in HOLES)
