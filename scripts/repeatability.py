"""Measure how well the volumes of a model repeat over reconstructions of one scan; writes the table of limits.

From one thin series, others are made as a scanner would reconstruct them: thicker slices that begin elsewhere, and more
noise. The patient does not move between them, so breathing and posture do not count: limits are the least that can be
expected. The within-subject coefficient of variation is the standard deviation of the logarithms.

Usage: .venv/bin/python -m scripts.repeatability CT [--write]
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.results.rt.tg263 import primary_name
from orthanc_plugin.series.read import read_series

TABLE = Path(__file__).parents[1] / "orthanc_plugin" / "validation" / "repeatability.csv"
NOISE_HU, SEED = 15.0, 1
_MODEL = "chest_structures"


def reconstructions(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """Make the reconstructions of a scan: a name and a volume each."""
    yield "as scanned", volume
    noise = np.random.default_rng(SEED).normal(0, NOISE_HU, volume.voxels_hu.shape).astype(np.float32)
    yield f"noise {NOISE_HU:g} HU", replace(volume, voxels_hu=volume.voxels_hu + noise)
    for slices, first in ((2, 0), (2, 1), (3, 0), (3, 1), (5, 0), (5, 2)):
        yield f"{slices} slices from {first}", thicker(volume, slices, first)


def thicker(volume: Volume, slices: int, first: int) -> Volume:
    """Average neighbouring slices, beginning at one."""
    count = (len(volume.voxels_hu) - first) // slices
    part = volume.voxels_hu[first : first + count * slices]
    voxels = part.reshape(count, slices, *part.shape[1:]).mean(axis=1, dtype=np.float32)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (first + (slices - 1) / 2)
    affine[:3, 2] *= slices
    step, *plane = volume.spacing_mm
    return Volume(voxels, (step * slices, plane[0], plane[1]), affine)


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description="measure how well volumes repeat")
    parser.add_argument("ct", type=Path, help="folder with one thin CT series")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    archive = FolderArchive(asked.ct, asked.ct)
    (one,) = (s for s in archive.series if s.modality == "CT")
    series = read_series(archive.retrieve(one.study_instance_uid, one.series_instance_uid), ReadSettings())
    engine = open_engine(find_model(_MODEL, None), Provider.CPU)
    volumes: dict[str, list[float]] = defaultdict(list)
    names = []
    for name, volume in reconstructions(series.volume):
        found = engine.segment(volume)
        names.append(name)
        for segment, voxels in zip(found.segments, found.voxels(), strict=True):
            key = primary_name(segment.type, segment.modifier) or segment.label
            volumes[key].append(voxels * volume.voxel_ml)
    source = (
        f"{_MODEL} {engine.card.version} on {len(names)} reconstructions of one chest CT (LIDC-IDRI-0314) without "
        "motion; scripts/repeatability.py"
    )
    rows = []
    for key, found_ml in volumes.items():
        wcv = 100 * float(np.std(np.log(found_ml), ddof=1))
        print(f"{key}: {len(found_ml)} volumes, {min(found_ml):.1f} to {max(found_ml):.1f} mL, wCV {wcv:.2f} %")  # noqa: T201
        if len(found_ml) == len(names):
            rows.append((key, "volume", f"{wcv:.2f}", source))
    if asked.write:
        with TABLE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("structure", "measure", "wcv_percent", "source"))
            writer.writerows(rows)


if __name__ == "__main__":
    main()
