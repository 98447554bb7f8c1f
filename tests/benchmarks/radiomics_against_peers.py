"""Radiomics of one organ in a whole CT, each side in a process of its own: CPU seconds with and without its start.

    make bench-radiomics                    heart, three runs of each side; ORGAN=lungs for 11.5 million voxels

Sides take turns, so that a busy minute hits all of them. The organ is that of `bench_radiomics`. MIRP runs in an
environment of its own, because it needs other versions than ours; without it, its row says so. Peers measure the
families that ours has: morphology, statistics, co-occurrence, runs, zones, dependence and neighbourhood differences.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.bench_radiomics import ORGANS, SPACING_MM, _make

_OWN = """
from tests.benchmarks.bench_radiomics import CLASSES, {side}
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
SIDES = {"ours": _OWN.format(side="_ours"), "pyradiomics": _OWN.format(side="_extractor"), "mirp": _MIRP}
_RUN = """
import json, sys, time
import numpy as np
image, mask = np.load(sys.argv[1]), np.load(sys.argv[2])
start = time.process_time()
{prepare}
found = measure()
cold = time.process_time() - start
start = time.process_time()
measure()
print(json.dumps([cold, time.process_time() - start, len(found)]))
"""


def main() -> None:
    """Print the medians of all sides."""
    arguments = _arguments()
    pythons = {"ours": sys.executable, "pyradiomics": sys.executable, "mirp": arguments.mirp}
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder, "image.npy"), Path(folder, "mask.npy")
        voxels_hu, inside = _make(ORGANS[arguments.organ])
        np.save(image, voxels_hu)
        np.save(mask, inside.astype(np.uint8))
        del voxels_hu
        found: dict[str, list[list[float]]] = {side: [] for side in arguments.sides}
        for _ in range(arguments.runs):
            for side in arguments.sides:
                if Path(pythons[side]).is_file():
                    found[side].append(_once(pythons[side], SIDES[side], image, mask))
    print(f"{arguments.organ}, {int(inside.sum())} voxels, {SPACING_MM} mm, {arguments.runs} runs of each side\n")
    print("| side | CPU s, cold start included | CPU s, again | features |")
    print("|---|---|---|---|")
    for side, runs in found.items():
        cells = [f"{statistics.median(one):.2f}" for one in list(zip(*runs, strict=True))[:2]]
        print(f"| {side} | {' | '.join(cells)} | {runs[0][2]:.0f} |" if runs else f"| {side} | not installed | | |")
    print(f"\nload {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


def _once(python: str, prepare: str, image: Path, mask: Path) -> list[float]:
    command = [python, "-c", _RUN.format(prepare=prepare), str(image), str(mask)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    measured: list[float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organ", choices=ORGANS, default="heart")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=[*SIDES])
    parser.add_argument("--mirp", default=".bench/mirp/bin/python", metavar="PYTHON", help="Python that has MIRP")
    return parser.parse_args()


if __name__ == "__main__":
    main()
