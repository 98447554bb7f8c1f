"""Long series of thin slices, made one by one, and the memory that reading them takes.

Usage: python -m tests.support.cases.long_series SLICES SIDE; prints the peak in MiB before and after, in a process of
its own, as a peak never falls.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin.domain.input_quality import InputLimits
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.series.read import read_series

STEP_MM = 0.3


def long_series(slices: int, side: int, step_mm: float = STEP_MM) -> Iterator[Dataset]:
    """Give slices of a phantom that is as wide as a patient, each as soon as it is asked for."""
    middle = encode_phantom(make_phantom((8, 64, 64)))[4]
    pixels = np.frombuffer(middle.PixelData, "<i2").reshape(64, 64)
    plane = np.kron(pixels, np.ones((side // 64, side // 64), "<i2"))
    noise = np.random.default_rng(1).integers(-20, 20, (side, side), "<i2")
    for index in range(slices):
        ds = deepcopy(middle)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{middle.SeriesInstanceUID}.{index + 1}"
        ds.Rows = ds.Columns = side
        ds.PixelSpacing, ds.SliceThickness = [400 / side, 400 / side], step_mm
        ds.ImagePositionPatient = [-200, -200, round(index * step_mm, 3)]
        ds.PixelData = (plane + np.roll(noise, index, 1)).astype("<i2").tobytes()
        yield ds


def peak_mib(slices: int, side: int) -> tuple[float, float]:
    """Measure the peak of a process before it reads such a series, and after it has read and measured it."""
    command = [sys.executable, "-m", __name__, str(slices), str(side)]
    before, after = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return before, after


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Read, measure, and print both peaks as JSON."""
    slices, side = map(int, sys.argv[1:])
    read_series(long_series(4, 64))  # libraries are loaded
    before = _peak()
    series = read_series(long_series(slices, side))
    measure_scan(series, InputLimits())
    json.dump([before, _peak()], sys.stdout)


if __name__ == "__main__":
    main()
