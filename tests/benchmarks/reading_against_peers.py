"""Measure how long a CT series takes from DICOM in memory to HU: this project, highdicom, SimpleITK, in one run.

Usage: python -m tests.benchmarks.reading_against_peers [FOLDER] [--rounds 3]. Readers take turns. CPU seconds (user and
system) and the ratio to this project can be compared on a machine that others use, wall seconds cannot.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import highdicom
import SimpleITK
from pydicom import dcmread

from orthanc_plugin.series.read import read_series
from tests.support.cases.realct import real_ct


def ours(files: list[Path], contents: list[bytes]) -> None:
    """From the bytes to checked HU."""
    read_series(dcmread(BytesIO(content)) for content in contents)


def by_highdicom(files: list[Path], contents: list[bytes]) -> None:
    """From the bytes to HU; a frame of reference for each slice would be refused, so they share the first one's."""
    series = [dcmread(BytesIO(content)) for content in contents]
    for ds in series:
        ds.FrameOfReferenceUID = series[0].FrameOfReferenceUID
    highdicom.get_volume_from_series(series, dtype="float32")


def by_simpleitk(files: list[Path], contents: list[bytes]) -> None:
    """From the files, which are in the cache of the system: it cannot read from memory. No value is checked."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent))
    SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names, SimpleITK.sitkFloat32))


READERS: dict[str, Callable[[list[Path], list[bytes]], None]] = {
    "this project": ours,
    "highdicom": by_highdicom,
    "SimpleITK": by_simpleitk,
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = sorted((asked.folder or real_ct("lidc_0314_chest/dicom")).iterdir())
    contents = [file.read_bytes() for file in files]
    cpu: dict[str, list[float]] = {name: [] for name in READERS}
    wall: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(asked.rounds):
        for name, read in READERS.items():
            before, began = os.times(), time.perf_counter()
            read(files, contents)
            after = os.times()
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(after.user - before.user + after.system - before.system)
    least = min(cpu["this project"])
    print(f"{len(files)} slices, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {asked.rounds} rounds")
    print("| reader | CPU s, least | CPU s, median | ratio | wall s, least |")
    print("|---|---|---|---|---|")
    for name in READERS:
        times = f"{min(cpu[name]):.2f} | {statistics.median(cpu[name]):.2f} | {min(cpu[name]) / least:.2f}"
        print(f"| {name} | {times} | {min(wall[name]):.2f} |")


if __name__ == "__main__":
    main()
