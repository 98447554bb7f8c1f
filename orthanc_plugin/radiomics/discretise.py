"""Grey levels: HU as the small whole numbers that textures and histograms count.

IBSI's bins of fixed width start at the lower end of the re-segmentation range. Without a range IBSI leaves the start
open. Here bins then start at -1000 HU, air, for every organ: with one origin a grey level means the same HU in two
organs and in two scans. Lower values belong to the first bin. Filtered images do not hold HU; their bins start at a
multiple of the width, as all bins of pyradiomics do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.whole_numbers import whole_offsets

IBSI_ORIGIN_HU = -1000.0
MOST_BINS = 1_000_000
"""Grey levels that histograms may have: a bin width far below the noise could use up all memory."""

Levels = NDArray[np.int32]


def grey_levels(voxels: Voxels, mask: Mask, settings: RadiomicsSettings, *, filtered: bool = False) -> Levels:
    """Return the grey level of each voxel inside, from 1; 0 outside; `MOST_BINS` and one if there are more than that.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x), float32
        HU, or the response of a filter.
    mask : ndarray, shape (z, y, x), bool
        The voxels that count; at least one.
    settings : RadiomicsSettings
        Its mode, bins and re-segmentation range count.
    filtered : bool
        Whether the voxels are the response of a filter.

    Source
    ------
    IBSI reference manual, intensity discretisation; pyradiomics 3.0.1, `imageoperations.getBinEdges`.
    """
    values = voxels[mask]
    levels = np.zeros(mask.shape, np.int32)
    if not settings.bin_count and _width_count(values, settings, filtered) > MOST_BINS:
        levels[mask] = MOST_BINS + 1
    elif settings.mode is RadiomicsMode.PYRADIOMICS:
        levels[mask] = _between(values, _edges(values, settings))
    elif settings.bin_count:
        levels[mask] = _fixed_count(values, settings.bin_count)
    else:
        levels[mask] = _fixed_width(values, settings, filtered)
    return levels


def _between(values: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return between which edges each value lies; whole numbers are looked up."""
    if (offsets := whole_offsets(values)) is None:
        return np.digitize(values, edges)
    every = np.arange(int(offsets.max()) + 1, dtype=values.dtype) + values.min()
    return np.asarray(np.digitize(every, edges)[offsets])


def _edges(values: NDArray[np.float32], settings: RadiomicsSettings) -> NDArray[np.float64]:
    """Return the bin edges of pyradiomics.

    They depend on the smallest and largest value only; given all values, it would loop over them in Python.
    """
    ends = np.array([values.min(), values.max()])
    count = settings.bin_count or None
    edges = pyradiomics().imageoperations.getBinEdges(ends, binWidth=settings.bin_width_hu, binCount=count)
    return np.asarray(edges)


def _fixed_count(values: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    # Multiplied before it is divided, as IBSI writes it: 29 / 50 * 50 is 28.999999999999996.
    place = count * (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.asarray((np.floor(place) + 1).clip(max=count))


def _width_count(values: NDArray[np.float32], settings: RadiomicsSettings, filtered: bool) -> float:
    """Return about how many bins of fixed width there are up to the highest value."""
    own = filtered or settings.mode is RadiomicsMode.PYRADIOMICS
    origin = float(values.min()) if own else ibsi_origin_hu(settings)
    return (float(values.max()) - origin) / settings.bin_width_hu


def _fixed_width(values: NDArray[np.float32], settings: RadiomicsSettings, filtered: bool) -> NDArray[np.float64]:
    width, origin = settings.bin_width_hu, _multiple_below(values, settings) if filtered else ibsi_origin_hu(settings)
    return np.asarray((np.floor((values.astype(np.float64) - origin) / width) + 1).clip(min=1))


def _multiple_below(values: NDArray[np.float32], settings: RadiomicsSettings) -> float:
    return float(np.floor(float(values.min()) / settings.bin_width_hu) * settings.bin_width_hu)


def ibsi_origin_hu(settings: RadiomicsSettings) -> float:
    """Return where mode `ibsi` begins its bins of fixed width in an image of HU."""
    return settings.resegment_hu[0] if settings.resegment_hu else IBSI_ORIGIN_HU


def filtered_bins(voxels: Voxels, mask: Mask, settings: RadiomicsSettings) -> str:
    """Say in words how `grey_levels` made the grey levels of a filtered image."""
    if settings.bin_count:
        return f"{settings.bin_count} bins"
    origin = number_text(_multiple_below(voxels[mask], settings))
    return f"width {number_text(settings.bin_width_hu)} from {origin}, a multiple of it"


def number_text(value: float) -> str:
    """Write a number with all digits that tell it from every other; -0 is 0."""
    return repr(float(value) + 0.0).removesuffix(".0")
