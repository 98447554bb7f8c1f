"""Measure what a series is worth as input: noise, truncation, metal, repeated slices, jumps, padding.

Every figure is measured on the voxels as models see them. Noise and outline look at evenly spread slices, so a long
series costs no more than a short one; metal, repeated slices and jumps look at every slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.input_quality import InputCheck, InputFigure, InputLimits
from orthanc_plugin.domain.volume import CtSeries, Volume, Voxels
from orthanc_plugin.quality.outline import Outline, outlines

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
RATIO = Code("1", "UCUM", "no units")
MM = Code("mm", "UCUM", "millimeter")
SLICES = Code("{slices}", "UCUM", "slices")

METAL_HU = 3000.0
"""Denser than any tissue: enamel and cortical bone stay below it. A 12-bit CT number ends at 3071."""

PADDING_HU = -1024.0
"""What the loader writes where a slice has no image or an impossible value."""

LARGEST_JUMP = 1.6
"""A step between neighbouring slices, in largest steps of the slices around it (docs/input-quality.md)."""

_NOISE_SLICES, _OUTLINE_SLICES = 24, 64
_PATCH_MM, _LEAST_PATCH = 8.0, 5
_SOFT_HU, _AIR_HU = (0.0, 120.0), (-1015.0, -900.0)
_BIN_HU, _LEAST_PATCHES = 0.5, 200
_LEAST_METAL_MM2 = 3.0
_JUMP_NEIGHBOURS, _LEAST_STEP_HU, _LEAST_BODY_PIXELS = 6, 8.0, 50
_STEP_HU = (-1000.0, 300.0)
_GAP = 1.05
_COARSE = 128


def measure_scan(series: CtSeries, limits: InputLimits) -> tuple[InputFigure, ...]:
    """Ask of a series all that its pixels and headers tell.

    Parameters
    ----------
    series : CtSeries
        As the loader vouched for it.
    limits : InputLimits
        When a check fails.

    Returns
    -------
    tuple of InputFigure
        One for each check, in the order of `InputCheck`; `scan_models` asks the two that need models.
    """
    volume = series.volume
    return (
        *noise(volume, limits.max_noise_hu),
        slice_thickness(series),
        truncation(volume, limits.max_truncated),
        metal(volume, limits.max_metal),
        repeated(volume),
        jumps(volume),
        padding(volume),
    )


def noise(volume: Volume, limit_hu: float) -> tuple[InputFigure, InputFigure]:
    """Measure noise as the commonest standard deviation of small patches in soft tissue, and in air.

    Source
    ------
    Christianson et al., Automated Technique to Measure Noise in Clinical CT Examinations, AJR 2015;205:W93-W99 (the
    global noise level: the mode of the local standard deviation in soft tissue).
    """
    soft, air = _patch_deviations(volume)
    tissue, around = _mode(soft), _mode(air)
    if tissue is None:
        found = InputFigure(InputCheck.NOISE, None, None, HU, "there is no uniform soft tissue to measure noise in")
    else:
        told = f"{tissue:.1f} HU in soft tissue, at most {limit_hu:g} HU are expected"
        found = InputFigure(InputCheck.NOISE, tissue <= limit_hu, tissue, HU, told)
    told = "there is no air around the body to measure noise in" if around is None else f"{around:.1f} HU in air"
    return found, InputFigure(InputCheck.AIR_NOISE, None, around, HU, told)


def slice_thickness(series: CtSeries) -> InputFigure:
    """Compare SliceThickness with the distance of the slices, and name the kernel."""
    step = series.volume.spacing_mm[0]
    thickness, kernel = _number(series, "SliceThickness"), _kernel(series)
    if thickness is None:
        told = f"SliceThickness is not known; slices every {step:.2f} mm; {kernel}"
        return InputFigure(InputCheck.SLICE_THICKNESS, None, None, MM, told)
    relation = "gaps between them" if step > _GAP * thickness else "no gaps between them"
    told = f"slices {thickness:.2f} mm thick every {step:.2f} mm: {relation}; {kernel}"
    return InputFigure(InputCheck.SLICE_THICKNESS, step <= _GAP * thickness, thickness, MM, told)


def truncation(volume: Volume, limit: float) -> InputFigure:
    """Measure which part of the body's outline lies on the edge of the reconstructed field."""
    found = [outline for outline in outlines(volume, spread(volume, _OUTLINE_SLICES)) if outline.length]
    if not found:
        return InputFigure(InputCheck.TRUNCATED, None, None, RATIO, "no outline of a body was found")
    share = _share(found)
    cut = sum(outline.on_edge > 0.01 * outline.length for outline in found)
    told = f"{share:.1%} of the body's outline lie on the edge of the field, in {cut} of {len(found)} slices looked at"
    return InputFigure(InputCheck.TRUNCATED, share <= limit, share, RATIO, told)


def metal(volume: Volume, limit: float) -> InputFigure:
    """Count the slices that hold metal."""
    counts = np.array([np.count_nonzero(plane > METAL_HU) for plane in volume.voxels_hu])
    pixel_mm2 = volume.spacing_mm[1] * volume.spacing_mm[2]
    share = float((counts * pixel_mm2 >= _LEAST_METAL_MM2).mean())
    part = float(counts.sum() / volume.voxels_hu.size)
    told = f"{share:.1%} of the slices and {part:.4%} of the voxels hold more than {METAL_HU:g} HU"
    return InputFigure(InputCheck.METAL, share <= limit, share, RATIO, told)


def repeated(volume: Volume) -> InputFigure:
    """Count slices whose pixels are exactly those of an earlier slice; blank slices do not count."""
    first: dict[bytes, list[int]] = {}
    again = 0
    for index, plane in enumerate(volume.voxels_hu):
        if plane.min() == plane.max():
            continue
        same = first.setdefault(coarse(plane).tobytes(), [])
        again += any(np.array_equal(plane, volume.voxels_hu[other]) for other in same)
        same.append(index)
    told = f"{again} of {len(volume.voxels_hu)} slices hold the very pixels of another slice"
    return InputFigure(InputCheck.REPEATED, again == 0, float(again), SLICES, told)


def jumps(volume: Volume) -> InputFigure:
    """Find the largest step between neighbouring slices, in the largest of the steps around it."""
    steps = _steps(volume)
    if len(steps) < 2 * _JUMP_NEIGHBOURS:
        return InputFigure(InputCheck.JUMPS, None, None, RATIO, "too few slices to compare the steps between them")
    ratios = np.array([_ratio(steps, index) for index in range(len(steps))])
    at, most = int(ratios.argmax()), float(ratios.max())
    count = int((ratios > LARGEST_JUMP).sum())
    told = (
        f"{count} jump(s) between neighbouring slices; the largest step, {most:.1f} times those around it, lies"
        f" between slices {at + 1} and {at + 2} from the feet"
    )
    return InputFigure(InputCheck.JUMPS, count == 0, most, RATIO, told)


def padding(volume: Volume) -> InputFigure:
    """Measure which part of the voxels holds no image."""
    share = sum(np.count_nonzero(plane <= PADDING_HU) for plane in volume.voxels_hu) / volume.voxels_hu.size
    return InputFigure(InputCheck.PADDING, None, share, RATIO, f"{share:.1%} of the voxels are padding or below air")


def spread(volume: Volume, most: int) -> NDArray[np.intp]:
    """Choose at most so many slices, evenly spread."""
    count = len(volume.voxels_hu)
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp))


def coarse(plane: Voxels) -> Voxels:
    """Take every n-th row and column of a slice, at most 128 of each."""
    rows, columns = (max(1, size // _COARSE) for size in plane.shape)
    return np.ascontiguousarray(plane[::rows, ::columns])


def _steps(volume: Volume) -> NDArray[np.float64]:
    """Mean difference of neighbouring slices where both show a body, in HU; (slices - 1,)."""
    planes = [np.clip(coarse(plane), *_STEP_HU) for plane in volume.voxels_hu]
    return np.array([_step(one, other) for one, other in pairwise(planes)])


def _step(one: Voxels, other: Voxels) -> float:
    body = (one > -500.0) & (other > -500.0)
    return float(np.abs(one - other)[body].mean()) if np.count_nonzero(body) >= _LEAST_BODY_PIXELS else 0.0


def _ratio(steps: NDArray[np.float64], index: int) -> float:
    """One step in the largest of its neighbours; the next ones are left out: a strange slice makes two steps."""
    below = steps[max(0, index - _JUMP_NEIGHBOURS) : max(0, index - 1)]
    above = steps[index + 2 : index + 1 + _JUMP_NEIGHBOURS]
    return float(steps[index] / max(_LEAST_STEP_HU, below.max(initial=0.0), above.max(initial=0.0)))


def _share(found: list[Outline]) -> float:
    return sum(outline.on_edge for outline in found) / sum(outline.length for outline in found)


def _patch_deviations(volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure the standard deviation of all patches that hold soft tissue only, and of those that hold air only."""
    sizes = [_odd(_PATCH_MM / step) for step in volume.spacing_mm[1:]]
    pairs = [_deviations(volume.voxels_hu[index], sizes) for index in spread(volume, _NOISE_SLICES)]
    return np.concatenate([soft for soft, _ in pairs]), np.concatenate([air for _, air in pairs])


def _deviations(plane: Voxels, sizes: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Soft tissue is told by the smoothed image, so that noise itself decides nothing."""
    mean = ndimage.uniform_filter(plane, sizes)
    variance = ndimage.uniform_filter(np.square(plane - mean), sizes)
    count = sizes[0] * sizes[1]
    deviation = np.sqrt(np.maximum(variance, 0.0) * count / (count - 1))
    inside = ndimage.minimum_filter((mean > _SOFT_HU[0]) & (mean < _SOFT_HU[1]), sizes)
    real = (mean > _AIR_HU[0]) & (mean < _AIR_HU[1]) & (deviation > 0)
    return deviation[inside], deviation[ndimage.minimum_filter(real, sizes)]


def _odd(voxels: float) -> int:
    return max(_LEAST_PATCH, 2 * int(voxels / 2) + 1)


def _mode(deviations: NDArray[np.float32]) -> float | None:
    """Find the commonest value, smoothed over three bins; None of too few patches."""
    if len(deviations) < _LEAST_PATCHES:
        return None
    width = max(_BIN_HU, float(np.median(deviations)) / 20)
    counts = np.bincount((deviations / width).astype(np.int64))
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return float((int(smooth.argmax()) + 0.5) * width)


def _number(series: CtSeries, keyword: str) -> float | None:
    """Give the one value that all slices have; None where they have none, several or no number."""
    found = set(_numbers(series, keyword))
    return found.pop() if len(found) == 1 else None


def _numbers(series: CtSeries, keyword: str) -> Iterator[float | None]:
    for header in series.headers:
        try:
            yield float(header[keyword].value)
        except (KeyError, TypeError, ValueError):
            yield None


def _kernel(series: CtSeries) -> str:
    """Name the reconstruction kernel, a technical term of the maker and no text about the patient."""
    found = {str(header.get("ConvolutionKernel") or "") for header in series.headers} - {""}
    told = [name for name in sorted(found) if len(name) <= 32 and name.isprintable()]
    return f"kernel {', '.join(told[:3])}" if told else "kernel is not known"
