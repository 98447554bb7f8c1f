"""Filtered images of an organ: Laplacian of Gaussian and wavelet, as the whole image would be filtered.

The filters of pyradiomics work along one axis after the other. Each step keeps only what the organ's box needs, so the
cost is one pass over the image for each axis. Values equal those of the whole image to the bit. That matters because
grey levels are derived from them: in a flat image even the sign of a rounding error decides the level. The Laplacian of
Gaussian of mode `ibsi` is IBSI's own and needs no more than its kernel reaches. Images come one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from orthanc_plugin.domain.image_filters import parse_filter
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.ibsi2.laplacian import laplacian_of_gaussian, laplacian_reach
from orthanc_plugin.radiomics.ibsi2.responses import response_within
from orthanc_plugin.radiomics.resample import Box, Spacing

_WAVELET = "coif1"
_REACH = 6
"""Taps of the wavelet: voxels further away do not enter a value."""
_SLAB_VOXELS = 4_000_000


def filtered_images(
    voxels_hu: Voxels, spacing_mm: Spacing, box: Box, settings: RadiomicsSettings
) -> Iterator[tuple[str, Voxels]]:
    """Yield the filtered images that the settings ask for, within a box, by pyradiomics' names.

    Parameters
    ----------
    voxels_hu : ndarray, shape (z, y, x), float32
        The whole image.
    spacing_mm : (z, y, x)
    box : three slices
        The part that the caller wants; not empty.
    settings : RadiomicsSettings
        Its `mode`, `log_sigma_mm`, `wavelet`, `filters` and `force_2d` (the first two filters then work within slices,
        except pyradiomics' Laplacian of Gaussian, which has no such option).

    Yields
    ------
    (str, ndarray float32)
        Name and image, of the size of the box: "log-sigma-3-0-mm-3D", "wavelet-LLH" (first letter: along x). Images
        that `absent_images` names are left out.

    Source
    ------
    pyradiomics 3.0.1, `imageoperations.getLoGImage` and `getWaveletImage` (coif1, level 1), with their defaults; ITK,
    `LaplacianRecursiveGaussianImageFilter`; for mode `ibsi` see `laplacian_of_gaussian`.
    """
    absent = absent_images(voxels_hu.shape, spacing_mm, settings)
    for sigma_mm in settings.log_sigma_mm:
        if (name := log_name(sigma_mm, settings)) not in absent:
            if settings.mode is RadiomicsMode.PYRADIOMICS:
                yield name, _itk_laplacian_of_gaussian(voxels_hu, spacing_mm, box, sigma_mm)
            else:
                yield name, _laplacian_within(voxels_hu, spacing_mm, box, sigma_mm, _axes(settings))
    if settings.wavelet:
        yield from _wavelet(voxels_hu, box, axes=_axes(settings)[::-1])
    for text in settings.filters:
        yield text, response_within(voxels_hu, spacing_mm, box, parse_filter(text))


def image_names(settings: RadiomicsSettings) -> tuple[str, ...]:
    """Name the filtered images that the settings ask for, in the order of `filtered_images`."""
    letters = product("LH", repeat=len(_axes(settings))) if settings.wavelet else ()
    wavelets = (f"wavelet-{''.join(one)}" for one in letters)
    return (*(log_name(sigma_mm, settings) for sigma_mm in settings.log_sigma_mm), *wavelets, *settings.filters)


def absent_images(shape: tuple[int, ...], spacing_mm: Spacing, settings: RadiomicsSettings) -> tuple[str, ...]:
    """Name the filtered images that pyradiomics does not make, because the image is too small for its filter.

    Along an axis it has fewer than four voxels, or fewer than a sigma and one.
    """
    if settings.mode is not RadiomicsMode.PYRADIOMICS:
        return ()
    return tuple(
        log_name(sigma_mm, settings)
        for sigma_mm in settings.log_sigma_mm
        if any(size < max(4, np.ceil(sigma_mm / mm) + 1) for size, mm in zip(shape, spacing_mm, strict=True))
    )


def _laplacian_within(voxels_hu: Voxels, spacing_mm: Spacing, box: Box, sigma_mm: float, axes: Sequence[int]) -> Voxels:
    """Filter the box and what the kernel reaches around it."""
    around, inner = [], []
    for axis, (part, size) in enumerate(zip(box, voxels_hu.shape, strict=True)):
        reach = laplacian_reach(sigma_mm, spacing_mm[axis]) if axis in axes else 0
        around.append(slice(max(0, part.start - reach), min(size, part.stop + reach)))
        inner.append(slice(part.start - around[-1].start, part.stop - around[-1].start))
    filtered = laplacian_of_gaussian(voxels_hu[tuple(around)], spacing_mm, sigma_mm, axes=axes)
    return filtered[tuple(inner)].astype(np.float32)


def _axes(settings: RadiomicsSettings) -> tuple[int, ...]:
    return (1, 2) if settings.force_2d else (0, 1, 2)


def log_name(sigma_mm: float, settings: RadiomicsSettings) -> str:
    """Name the Laplacian of Gaussian of one sigma as pyradiomics does, with the dimensions that it really has."""
    within_slices = settings.force_2d and settings.mode is RadiomicsMode.IBSI
    return f"log-sigma-{str(float(sigma_mm)).replace('.', '-')}-mm-{2 if within_slices else 3}D"


def _itk_laplacian_of_gaussian(voxels_hu: Voxels, spacing_mm: Spacing, box: Box, sigma_mm: float) -> Voxels:
    """Add the second derivatives along x, y and z, each smoothed along the other two, in ITK's order and precision."""
    total = np.zeros([axis.stop - axis.start for axis in box], np.float32)
    for derived in (2, 1, 0):
        part = _recursive_gaussian(voxels_hu, spacing_mm, box, derived, sigma_mm, order=2)
        for smoothed in sorted({0, 1, 2} - {derived}, reverse=True):
            part = _recursive_gaussian(part, spacing_mm, box, smoothed, sigma_mm, order=0)
        total = (total + part.astype(np.float64) * (1 / spacing_mm[derived] ** 2)).astype(np.float32)
    return total


def _recursive_gaussian(
    voxels: Voxels, spacing_mm: Spacing, box: Box, axis: int, sigma_mm: float, order: int
) -> Voxels:
    """Filter whole lines along an axis, one slab at a time, and keep the box along that axis."""
    across = 1 if axis == 0 else 0
    shape = list(voxels.shape)
    shape[axis] = box[axis].stop - box[axis].start
    kept = np.empty(shape, np.float32)
    step = max(1, _SLAB_VOXELS * voxels.shape[across] // voxels.size)
    for start in range(0, voxels.shape[across], step):
        slab: list[slice] = [slice(None)] * 3
        slab[across] = slice(start, start + step)
        image = sitk.GetImageFromArray(voxels[tuple(slab)])
        image.SetSpacing(spacing_mm[::-1])  # type: ignore[no-untyped-call]
        wanted: list[slice] = [slice(None)] * 3
        wanted[axis] = box[axis]
        # Keep a name for the image: its view does not keep it alive.
        filtered = sitk.RecursiveGaussian(image, sigma_mm, True, order, 2 - axis)  # type: ignore[no-untyped-call]
        kept[tuple(slab)] = sitk.GetArrayViewFromImage(filtered)[tuple(wanted)]
    return kept


def _wavelet(voxels_hu: Voxels, box: Box, axes: tuple[int, ...]) -> Iterator[tuple[str, Voxels]]:
    """Yield the sub-bands: low and high pass along the first axis, each then split along the next."""
    needed = [
        _needed(part, size) if axis in axes else (np.arange(part.start, part.stop), slice(None))
        for axis, (part, size) in enumerate(zip(box, voxels_hu.shape, strict=True))
    ]
    inner = tuple(within for _, within in needed)
    for letters, band in _split(voxels_hu[np.ix_(*(indices for indices, _ in needed))], axes):
        yield f"wavelet-{letters}", np.ascontiguousarray(band[inner])


def _needed(part: slice, size: int) -> tuple[NDArray[np.intp], slice]:
    """Return the indices along an axis on which the values of a part depend, and the place of the part in them.

    Their number is even. The axis is periodic; an odd axis repeats its first voxel at its end. Near an end the result
    is the whole axis: wrapped voxels enter a sum in another order, so they would change its rounding.
    """
    start, stop = part.start - _REACH, part.stop + _REACH
    stop += (stop - start) % 2
    if start >= 0 and stop <= size:
        return np.arange(start, stop), slice(_REACH, _REACH + part.stop - part.start)
    return np.arange(size + size % 2) % size, part


def _split(voxels: Voxels, axes: tuple[int, ...], letters: str = "") -> Iterator[tuple[str, Voxels]]:
    import pywt  # type: ignore[import-untyped]  # comes with pyradiomics, which is an extra

    if not axes:
        yield letters, voxels
        return
    ((low, high),) = pywt.swt(voxels, _WAVELET, level=1, axis=axes[0])
    yield from _split(low, axes[1:], letters + "L")
    del low
    yield from _split(high, axes[1:], letters + "H")
