"""Change real chests in one way each and compare the built-in model with its own result on the unchanged chest.

Writes the table of docs/models/chest_variants.md: Dice of each structure where the change left it, and how much of
what was drawn is labelled lung, airway or bone.

With --only, just the named rows are measured, and --write replaces those in the page.

Usage: .venv/bin/python -m scripts.chest_variants DATA [--series cip_ct64/dicom ...] [--only CHANGE ...] [--write]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.series.read import read_series
from tests.support.cases.chest_variants import AIRWAY, BONE, LEFT, RIGHT, VARIANTS, Chest, chest

PAGE = Path(__file__).parents[1] / "docs" / "models" / "chest_variants.md"
START = "<!-- table -->"
STRUCTURES = {"left lung": LEFT, "right lung": RIGHT, "airway": AIRWAY, "bone": BONE}
WIDEST_MM = 1.5


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--series", nargs="+", default=["cip_ct64/dicom", "lidc_0314_chest/dicom"])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="CHANGE", help="beginnings of rows in the page")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    engine = open_engine(find_model("chest_structures", None), Provider.CPU)
    for name in options.series:
        lines = []
        for line in table(options.data / name, name, engine, options.only or tuple(VARIANTS)):
            lines.append(line)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if options.write:
            page = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(merged(page, name, lines), encoding="utf-8")


def merged(page: str, name: str, lines: Sequence[str]) -> str:
    """Put the rows of a series into the page: each in the place of the row of its change, new ones at the end.

    Rows are known by their first cell; a series that the page does not have is added whole.
    """
    before, mark, tables = page.partition(START)
    title = next(line for line in lines if line.startswith("## "))
    sections = [part for part in re.split(r"(?=^## )", tables.strip("\n"), flags=re.MULTILINE) if part.strip()]
    at = next((n for n, part in enumerate(sections) if part.startswith(f"## {name},")), None)
    if at is None:
        sections.append("\n".join(lines))
    else:
        new = {change_of(line): line for line in lines if line.startswith("| ")}
        kept = [new.pop(change_of(line), line) for line in sections[at].strip("\n").splitlines()]
        sections[at] = "\n".join([title, *kept[1:], *new.values()])
    return before + mark + "\n\n" + "\n\n".join(part.strip("\n") for part in sections) + "\n"


def change_of(line: str) -> str:
    """Give the change of a row, its first cell; empty for other lines."""
    return line.split("|")[1].strip() if line.startswith("| ") else ""


def table(folder: Path, name: str, engine: SegmentationEngine, changes: Iterable[str]) -> Iterator[str]:
    """Give the rows of some changes of one series."""
    archive = FolderArchive(folder, folder)
    one = archive.series[0]
    volume = read_series(archive.retrieve(one.study_instance_uid, one.series_instance_uid), ReadSettings()).volume
    volume = halved(volume)
    unchanged = chest(volume, engine.segment(volume).labels)
    yield f"## {name}, {' x '.join(map(str, volume.voxels_hu.shape))} voxels"
    yield ""
    scores = " | ".join(f"Dice {structure}" for structure in STRUCTURES)
    yield f"| change | {scores} | drawn, mL | of it labelled lung, airway / bone, mL | notes |"
    yield "|---|" + "---|" * (len(STRUCTURES) + 3)
    for change in changes:
        yield row(change, VARIANTS[change](unchanged), engine)
    yield ""


def halved(volume: Volume) -> Volume:
    """Join 2 x 2 x 2 voxels of fine scans: the variants are many, and the model works at 3 mm."""
    if min(volume.spacing_mm) > WIDEST_MM:
        return volume
    z, y, x = (size // 2 * 2 for size in volume.voxels_hu.shape)
    hu = volume.voxels_hu[:z, :y, :x].reshape(z // 2, 2, y // 2, 2, x // 2, 2).mean(axis=(1, 3, 5))
    affine = volume.affine.copy()
    affine[:3, :3] *= 2
    dz, dy, dx = (2 * mm for mm in volume.spacing_mm)
    return Volume(np.ascontiguousarray(hu, np.float32), (dz, dy, dx), affine)


def row(change: str, made: Chest, engine: SegmentationEngine) -> str:
    """Measure one change."""
    found = engine.segment(made.volume)
    ml = made.volume.voxel_ml
    scores = [dice(found.labels == number, made.labels == number) for number in STRUCTURES.values()]
    air = np.isin(found.labels, (LEFT, RIGHT, AIRWAY)) & made.added
    bone = (found.labels == BONE) & made.added
    amounts = f"{made.added.sum() * ml:.0f} | {air.sum() * ml:.0f} / {bone.sum() * ml:.0f}"
    return f"| {change} | {' | '.join(scores)} | {amounts} | {'; '.join(found.notes)} |"


def dice(found: np.ndarray, known: np.ndarray) -> str:
    """Format the Dice coefficient; a dash where neither has a voxel."""
    total = int(found.sum()) + int(known.sum())
    return f"{2 * int((found & known).sum()) / total:.3f}" if total else "-"


if __name__ == "__main__":
    main()
