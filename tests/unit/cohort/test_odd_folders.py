"""Folders as they lie about: files twice, tables among their sources, names that lead nowhere."""

from __future__ import annotations

from pathlib import Path

from orthanc_plugin.cohort.build import build
from orthanc_plugin.cohort.sources import FolderSource
from tests.support.cases.cohort_case import our_results, rows, write


def source(folder: Path, out: Path) -> FolderSource:
    return FolderSource(folder, lambda patient: patient, tables=out)


def test_an_instance_that_lies_twice_counts_once(tmp_path: Path) -> None:
    folder, out = write(our_results()[:3], tmp_path / "source"), tmp_path / "tables"
    first = sorted(folder.iterdir())[0]
    (folder / "again.dcm").write_bytes(first.read_bytes())
    build(source(folder, out), out)
    assert [row["instances"] for row in rows(out, "series")] == [3]


def test_tables_within_their_source_are_not_read(tmp_path: Path) -> None:
    folder = write(our_results()[:2], tmp_path / "source")
    out = folder / "cohort"
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.dcm").symlink_to(folder / "gone")
    first, second = (build(source(folder, out), out) for _ in range(2))
    assert (first.read, second.read, second.known) == (2, 0, 2)
    assert first.digest == second.digest
    write(our_results()[2:3], out)
    assert build(source(folder, out), out).read == 1
