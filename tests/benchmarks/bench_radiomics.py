"""Radiomics of one organ in a whole CT against pyradiomics' extractor: seconds, memory, the largest difference.

    python -m tests.benchmarks.bench_radiomics --organ heart                 both sides, a minute or two
    python -m tests.benchmarks.bench_radiomics --organ lungs                 both sides: the extractor takes 10 minutes
    python -m tests.benchmarks.bench_radiomics --organ lungs --ours-only
    python -m tests.benchmarks.bench_radiomics --features glcm gldm          these classes only

The organ is made of noise in 300 x 512 x 512 voxels; the extractor gets the uncropped image. Linux only (the peak is
read from and reset in /proc). Memory is what is used beyond image and mask.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Mask, Segment, Segmentation
from orthanc_plugin.domain.radiomics_settings import TEXTURES, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.reference import pyradiomics

SHAPE = (300, 512, 512)
SPACING_MM = (1.0, 0.78, 0.78)
CLASSES = (FeatureClass.SHAPE, FeatureClass.FIRSTORDER, *TEXTURES)
Centre = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Organ:
    """Ellipsoids of given centres and half axes (voxels), filled with smooth noise about a mean (HU)."""

    centres: tuple[Centre, ...]
    half_axes: Centre
    mean_hu: float
    deviation_hu: float


ORGANS = {
    "heart": Organ(((150, 250, 250),), (50, 70, 75), 40, 30),
    "lungs": Organ(((150, 250, 150), (150, 250, 360)), (140, 120, 82), -800, 90),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One side: what it took and what it found."""

    seconds: float
    mib: float
    values: dict[str, float]


def main() -> None:
    arguments = _arguments()
    pyradiomics()
    print("| organ | voxels | ours s | MiB | pyradiomics s | MiB | ratio | features | largest relative difference |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.organ:
        print(_row(name, tuple(arguments.features), arguments.ours_only), flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, 1 organ at a time")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organ", nargs="+", choices=ORGANS, default=["heart"])
    parser.add_argument("--features", nargs="+", type=FeatureClass, choices=CLASSES, default=CLASSES)
    parser.add_argument("--ours-only", action="store_true")
    return parser.parse_args()


def _row(name: str, classes: tuple[FeatureClass, ...], ours_only: bool) -> str:
    voxels_hu, mask = _make(ORGANS[name])
    voxels = int(np.count_nonzero(mask))
    ours = _measure(lambda: _ours(voxels_hu, mask, classes))
    row = f"| {name} | {voxels} | {ours.seconds:.1f} | {ours.mib:.0f} |"
    if ours_only:
        return f"{row} | | | {len(ours.values)} | |"
    theirs = _measure(lambda: _extractor(voxels_hu, mask, classes))
    differences = {key: abs(ours.values[key] / value - 1) for key, value in theirs.values.items() if value}
    worst = max(differences, key=lambda key: differences[key])
    ratio = theirs.seconds / ours.seconds
    return (
        f"{row} {theirs.seconds:.1f} | {theirs.mib:.0f} | {ratio:.1f} | {len(differences)} | "
        f"{differences[worst]:.0e} ({worst}) |"
    )


def _make(organ: Organ) -> tuple[NDArray[np.float32], Mask]:
    mask = np.zeros(SHAPE, bool)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    a, b, c = organ.half_axes
    for centre in organ.centres:
        mask |= ((z - centre[0]) / a) ** 2 + ((y - centre[1]) / b) ** 2 + ((x - centre[2]) / c) ** 2 <= 1
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.8, output=np.float32)
    noise *= organ.deviation_hu / noise.std()
    noise += organ.mean_hu
    return np.round(noise, out=noise), mask


def _measure(measure: Callable[[], dict[str, float]]) -> Measured:
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status_mib("VmRSS"), time.perf_counter()
    values = measure()
    return Measured(time.perf_counter() - start, _status_mib("VmHWM") - before, values)


def _ours(voxels_hu: NDArray[np.float32], mask: Mask, classes: tuple[FeatureClass, ...]) -> dict[str, float]:
    segment = Segment(1, "organ", "Organ", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    volume = Volume(voxels_hu, SPACING_MM, np.eye(4))
    settings = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, classes=classes)
    (measured,) = measure_segments(volume, Segmentation(mask.view(np.uint8), (segment,)), {"organ"}, settings)
    return {feature.name: feature.value for feature in measured.features}


def _extractor(voxels_hu: NDArray[np.float32], mask: Mask, classes: tuple[FeatureClass, ...]) -> dict[str, float]:
    from radiomics import featureextractor

    progress = logging.getLogger("radiomics.featureextractor")
    progress.setLevel(logging.INFO)
    progress.propagate = False
    if not progress.handlers:
        progress.addHandler(logging.StreamHandler())
        progress.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    image, label = sitk.GetImageFromArray(voxels_hu), sitk.GetImageFromArray(mask.view(np.uint8))
    for one in (image, label):
        one.SetSpacing(SPACING_MM[::-1])
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=25)
    extractor.disableAllFeatures()
    for name in classes:
        extractor.enableFeatureClassByName(str(name))
    found = extractor.execute(image, label)
    return {key.removeprefix("original_"): float(value) for key, value in found.items() if key.startswith("original_")}


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    main()
