"""Seconds and peak memory of the radiomics of each segment.

    python -m tests.benchmarks.bench_radiomics                      the phantom, 275 x 512 x 512
    python -m tests.benchmarks.bench_radiomics --dicom FOLDER       a CT series, segmented by chest_structures
    python -m tests.benchmarks.bench_radiomics --shape 79 64 64 --reference    with pyradiomics' own classes beside

Linux only (the peak is read from and reset in /proc). Memory is what is used beyond volume and label map.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import dcmread

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.ct import Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.masks import Segment, Segmentation
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.series.read import read_series
from orthanc_plugin.validation.phantom import make_phantom


def main() -> None:
    arguments = _arguments()
    card = find_model("chest_structures", None)
    if arguments.dicom:
        volume = read_series(dcmread(path) for path in sorted(arguments.dicom.iterdir())).volume
        segmentation = open_engine(card, Provider.CPU).segment(volume)
    else:
        phantom = make_phantom(tuple(arguments.shape))
        volume = phantom.volume
        names = Segment.__dataclass_fields__
        segments = tuple(Segment(**{name: getattr(label, name) for name in names}) for label in card.labels)
        segmentation = Segmentation(phantom.labels, segments)
    shape_keys = {label.key for label in card.labels if label.shape_features}
    _run(volume, segmentation, shape_keys, arguments.reference)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dicom", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(275, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--reference", action="store_true", help="pyradiomics too: minutes for a lung at full size")
    return parser.parse_args()


def _run(volume: Volume, segmentation: Segmentation, shape_keys: set[str], reference: bool) -> None:
    pyradiomics()
    print(f"{'x'.join(map(str, volume.voxels_hu.shape))}, {' x '.join(f'{s:.3f}' for s in volume.spacing_mm)} mm")
    print(f"{'segment':12} {'voxels':>10} {'features':>8} {'s':>7} {'MiB':>6}")
    for segment in segmentation.segments:
        one = replace(segmentation, segments=(segment,))
        mask = segmentation.mask(segment)
        voxels = int(np.count_nonzero(mask))
        if reference:
            _row(f"({segment.key})", voxels, lambda s=segment, m=mask: _pyradiomics(volume, m, s.key in shape_keys))
        del mask
        _row(segment.key, voxels, lambda o=one: len(measure_segments(volume, o, shape_keys)[0].features))


def _row(name: str, voxels: int, measure: Callable[[], int]) -> None:
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status_mib("VmRSS"), time.perf_counter()
    features = measure()
    seconds, mib = time.perf_counter() - start, _status_mib("VmHWM") - before
    print(f"{name:12} {voxels:10} {features:8} {seconds:7.2f} {mib:6.0f}", flush=True)


def _pyradiomics(volume: Volume, mask: np.ndarray, with_shape: bool) -> int:
    import radiomics.firstorder
    import radiomics.shape

    box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(mask))
    image, label = (sitk.GetImageFromArray(a[box]) for a in (volume.voxels_hu, mask.astype(np.uint8)))
    for one in (image, label):
        one.SetSpacing(volume.spacing_mm[::-1])
    count = len(radiomics.firstorder.RadiomicsFirstOrder(image, label, binWidth=25).execute())
    return count + (len(radiomics.shape.RadiomicsShape(image, label).execute()) if with_shape else 0)


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    main()
