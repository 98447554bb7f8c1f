"""A stub of an nnU-Net on a large CT, in a process of its own: its peak of memory, and what admission expects of it.

Usage: python -m tests.benchmarks.nnunet_stub DIR [--slices 1000] [--classes 118]. The network is one 1x1x1 convolution,
so what is measured is all that this project does around a network; patches do not overlap, which saves time and no
memory. Prints JSON: seconds, and in GiB the peak of resident memory (the CT included) and the estimate of admission.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from orthanc_plugin.catalog.nnunet import Framework, Part, Resampling
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.jobs.memory import needed_bytes
from tests.support.cases import nnunet_case

PATCH = (128, 128, 128)
SIDE, SPACING_MM = 512, (1.0, 0.8, 0.8)


def ct(slices: int) -> Volume:
    """Soft blobs over the whole range of HU, made slice by slice."""
    voxels = np.empty((slices, SIDE, SIDE), np.float32)
    side = np.arange(SIDE, dtype=np.float32)
    plane = 800 * np.sin(side / 31)[:, None] * np.cos(side / 23)
    for z in range(slices):
        np.multiply(plane, np.float32(np.sin(z / 41)), out=voxels[z])
    return Volume(voxels, SPACING_MM, np.diag([0.8, 0.8, 1.0, 1.0]))


def engine(directory: Path, heads: int) -> NnunetEngine:
    """Each head is highest in a range of HU of its own: the envelope of tangents to a parabola."""
    points = np.linspace(-1, 1, heads)
    nnunet_case.thresholds(directory / "fold_0.onnx", PATCH, 20 * points, -10 * points**2)
    configuration = replace(
        nnunet_case.CONFIGURATION,
        framework=Framework.V2,
        spacing_mm=(1.5, 1.5, 1.5),
        patch_size=PATCH,
        data_resampling=Resampling(3),
        tile_step=1.0,
        heads=heads,
    )
    return NnunetEngine(nnunet_case.card(directory, Part((configuration,), tuple(range(heads)))), Provider.CPU)


def peak_gib() -> float:
    """The most resident memory this process has had."""
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=118)
    options = parser.parse_args()
    stub, volume = engine(options.directory, options.classes), ct(options.slices)
    z, y, x = (mm * size for mm, size in zip(SPACING_MM, volume.voxels_hu.shape, strict=True))
    expected = needed_bytes(volume.voxels_hu.size, [stub.card], (z, y, x))
    started = time.monotonic()
    found = stub.segment(volume)
    figures = {
        "seconds": time.monotonic() - started,
        "peak_gib": peak_gib(),
        "estimate_gib": expected / 2**30,
        "segments": len(found.segments),
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
