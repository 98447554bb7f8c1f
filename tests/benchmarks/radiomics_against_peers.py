"""Radiomics of one organ in a whole CT, each side in a process of its own: CPU seconds of its start and its organs.

The start is Python and the libraries, which a worker loads before its first job; the first organ shows what a side
compiles or fills when it first measures.

    make bench-radiomics                    heart, three runs of each side; ORGAN=lungs for 11.5 million voxels

Sides take turns, so that a busy minute hits all of them. The organ is that of `bench_radiomics`. MIRP runs in an
environment of its own, because it needs other versions than ours, and pictologics too, because it needs Python 3.12. A
side that is missing, fails or takes too long is a row that says so: the table always has all sides, and the benchmark
ends within --seconds for each of them. Peers have the families that ours has: morphology, statistics, co-occurrence,
runs, zones, dependence and neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.benchmarks.bench_radiomics import ORGANS, SPACING_MM, _make

_OWN = """
from tests.benchmarks.bench_radiomics import CLASSES, {side}
from orthanc_plugin.radiomics.reference import pyradiomics
pyradiomics(){more}
measure = lambda: {side}(image, mask.astype(bool), CLASSES)
"""
_MIRP = """
import mirp
def measure():
    found = mirp.extract_features(
        image=image, mask=mask, image_modality="ct", base_discretisation_method="fixed_bin_size",
        base_discretisation_bin_width=25.0, resegmentation_intensity_range=[-1000.0, 3000.0],
        base_feature_families=["mrp", "stat", "cm", "rlm", "szm", "tdm", "ldm"])
    return [name for name in found[0].columns if not name.startswith(("sample", "image", "roi"))]
"""
_PICTOLOGICS = """
from pictologics import Image, RadiomicsPipeline
pipeline = RadiomicsPipeline()
pipeline.add_config("same", [
    {"step": "discretise", "params": {"method": "FBS", "bin_width": 25.0, "min_val": -1000.0}},
    {"step": "extract_features", "params": {
        "families": ["morphology", "intensity", "glcm", "glrlm", "glszm", "ngtdm", "ngldm"]}}])
def given(array):
    turned = np.ascontiguousarray(array.T.astype(np.float64))
    return Image(array=turned, spacing=(0.78, 0.78, 1.0), origin=(0.0, 0.0, 0.0), modality="CT")
def measure():
    return pipeline.run(given(image), given(mask), config_names=["same"])["same"]
"""
SIDES = {
    "ours": _OWN.format(side="_ours", more=""),
    "pyradiomics": _OWN.format(side="_extractor", more="; import radiomics.featureextractor"),
    "mirp": _MIRP,
    "pictologics": _PICTOLOGICS,
}
_RUN = """
import json, sys, time
import numpy as np
before = time.process_time()
image, mask = np.load(sys.argv[1]), np.load(sys.argv[2])
loaded = time.process_time()
{prepare}
start = before + time.process_time() - loaded
times = []
for _ in range(2):
    begun = time.process_time()
    found = measure()
    times.append(time.process_time() - begun)
print(json.dumps([start, *times, len(found)]))
"""


@dataclass
class Side:
    """What one side took, run by run: CPU seconds of start, first organ and again, and features; or why it has none."""

    python: Path
    prepare: str
    seconds_left: float
    runs: list[list[float]] = field(default_factory=list)
    absent: str = ""

    def run(self, image: Path, mask: Path) -> None:
        """Run once, unless the side has failed or its time is up."""
        if self.absent or self.seconds_left <= 0:
            return
        start = time.monotonic()
        command = [str(self.python), "-c", _RUN.format(prepare=self.prepare), str(image), str(mask)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self.seconds_left)
            if done.returncode:
                self.absent = f"failed: {(done.stderr.strip() or f'status {done.returncode}').splitlines()[-1][:120]}"
            else:
                self.runs.append(json.loads(done.stdout.splitlines()[-1]))
        except (OSError, ValueError, IndexError) as error:
            self.absent = f"failed: {type(error).__name__}"
        except subprocess.TimeoutExpired:
            # Runs before this one count.
            self.absent = "" if self.runs else f"longer than {self.seconds_left:.0f} s"
        self.seconds_left -= time.monotonic() - start

    def cells(self) -> list[str]:
        """Return the cells of its row: medians, features, runs."""
        if self.absent or not self.runs:
            return [self.absent or "no time", "", "", "", str(len(self.runs))]
        *seconds, features = (statistics.median(one) for one in zip(*self.runs, strict=True))
        return [*(f"{one:.2f}" for one in seconds), f"{features:.0f}", str(len(self.runs))]


def main() -> None:
    """Print the medians of all sides."""
    arguments = _arguments()
    own = Path(sys.executable)
    pythons = {
        "ours": own, "pyradiomics": own, "mirp": Path(arguments.mirp), "pictologics": Path(arguments.pictologics),
    }  # fmt: skip
    sides = {name: Side(pythons[name], SIDES[name], arguments.seconds) for name in arguments.sides}
    for side in sides.values():
        side.absent = "" if side.python.is_file() else "not installed"
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder, "image.npy"), Path(folder, "mask.npy")
        voxels_hu, inside = _make(ORGANS[arguments.organ])
        np.save(image, voxels_hu)
        np.save(mask, inside.astype(np.uint8))
        del voxels_hu
        for _ in range(arguments.runs):
            for side in sides.values():
                side.run(image, mask)
    print(f"{arguments.organ}, {int(inside.sum())} voxels, {SPACING_MM} mm\n")
    print("| side | CPU s, start | CPU s, first organ | CPU s, again | features | runs |")
    print("|---|---|---|---|---|---|")
    for name, side in sides.items():
        print(f"| {name} | {' | '.join(side.cells())} |")
    print(f"\nload {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organ", choices=ORGANS, default="heart")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600, help="for all runs of a side")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=[*SIDES])
    for peer in ("mirp", "pictologics"):
        parser.add_argument(
            f"--{peer}", default=f".bench/{peer}/bin/python", metavar="PYTHON", help="Python that has it"
        )
    return parser.parse_args()


if __name__ == "__main__":
    main()
