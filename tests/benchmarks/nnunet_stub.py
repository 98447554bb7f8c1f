"""A 118-class stub of an nnU-Net on a large CT, in a process of its own: `python -m tests.benchmarks.nnunet_stub DIR`.

The network is one 1x1x1 convolution, so what is measured is all that this project does around a network. Prints JSON:
seconds, and the peak of resident memory in GiB (the CT, 0.6 GiB, included).
"""

from __future__ import annotations

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
from tests.support.cases import nnunet_case

HEADS, PATCH = 118, (128, 128, 128)
SHAPE, SPACING_MM = (600, 512, 512), (1.0, 0.8, 0.8)


def ct() -> Volume:
    """Soft blobs over the whole range of HU, made slice by slice."""
    z, y, x = (np.arange(size, dtype=np.float32) for size in SHAPE)
    waves = 800 * np.sin(y / 31)[:, None] * np.cos(x / 23) * np.sin(z / 41)[:, None, None]
    return Volume(waves.astype(np.float32), SPACING_MM, np.diag([0.8, 0.8, 1.0, 1.0]))


def engine(directory: Path) -> NnunetEngine:
    """Each head is highest in a range of HU of its own: the envelope of tangents to a parabola."""
    points = np.linspace(-1, 1, HEADS)
    nnunet_case.thresholds(directory / "fold_0.onnx", PATCH, 20 * points, -10 * points**2)
    configuration = replace(
        nnunet_case.CONFIGURATION,
        framework=Framework.V2,
        spacing_mm=(1.5, 1.5, 1.5),
        patch_size=PATCH,
        data_resampling=Resampling(3),
        heads=HEADS,
    )
    return NnunetEngine(nnunet_case.card(directory, Part((configuration,), tuple(range(HEADS)))), Provider.CPU)


def peak_gib() -> float:
    """The most resident memory this process has had."""
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 2**20


if __name__ == "__main__":
    stub, volume = engine(Path(sys.argv[1])), ct()
    started = time.monotonic()
    found = stub.segment(volume)
    figures = {"seconds": time.monotonic() - started, "peak_gib": peak_gib(), "segments": len(found.segments)}
    sys.stdout.write(json.dumps(figures))
