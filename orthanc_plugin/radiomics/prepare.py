"""From a stored mask to the region that is measured: resampling, then re-segmentation, by the rules of the mode.

Shape is measured on the morphological mask, intensities and textures on the intensity mask. The intensity mask keeps
the voxels within the HU range, and of those the voxels within a number of standard deviations of their mean. In
pyradiomics mode its own code resamples, and both masks are cropped to the voxels left after re-segmentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from orthanc_plugin.domain.image_filters import parse_filter
from orthanc_plugin.domain.masks import Mask, box_of
from orthanc_plugin.domain.radiomics_settings import FeatureClass, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics import local_intensity
from orthanc_plugin.radiomics.ibsi2 import responses
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.resample import Box, Spacing, resampled, resampled_voxels

_FILTER_REACH_SIGMA = 5
_WAVELET_REACH = 8
_INTERPOLATORS = {Interpolation.LINEAR: sitk.sitkLinear, Interpolation.CUBIC: sitk.sitkBSpline}


_RESAMPLING_BYTES = 29
"""Bytes per voxel of the new grid while image and mask are resampled."""
_PYRADIOMICS_MARGIN = 10
"""Voxels that pyradiomics adds to the new grid along each axis."""


@dataclass(frozen=True, slots=True)
class Region:
    """An organ that is ready to be measured.

    voxels_hu: (z, y, x) float32, the organ and the surroundings that filters read.
    box: place of the organ in `voxels_hu`.
    spacing_mm: (z, y, x).
    morphological, intensity: the two masks, of the size of the box.
    """

    voxels_hu: Voxels
    box: Box
    spacing_mm: Spacing
    morphological: Mask
    intensity: Mask

    @property
    def inside_hu(self) -> Voxels:
        """Voxels of the box."""
        return self.voxels_hu[self.box]


def prepare(voxels_hu: Voxels, mask: Mask, box: Box, spacing_mm: Spacing, settings: RadiomicsSettings) -> Region:
    """Bring an organ, the `mask` in `box` of the image, onto its grid and make its two masks.

    Parameters
    ----------
    voxels_hu : ndarray, shape (z, y, x), float32
        The whole image.
    mask : ndarray, bool
        The organ, of the size of the box; two voxels or more.
    box : three slices
        Place of the mask in the image.
    spacing_mm : (z, y, x)
    settings : RadiomicsSettings
        Its mode, spacing, interpolation and re-segmentation count; its filters set how much of the surroundings stays.

    Returns
    -------
    Region
        With empty masks if resampling leaves nothing.

    Source
    ------
    IBSI reference manual, image processing; pyradiomics 3.0.1, `featureextractor.py`, `imageoperations.py`.
    """
    pyradiomics_mode = settings.mode is RadiomicsMode.PYRADIOMICS
    if any(settings.spacing_mm):
        grid = _pyradiomics_grid if pyradiomics_mode else _ibsi_grid
        voxels_hu, mask, box, spacing_mm = grid(voxels_hu, mask, box, spacing_mm, settings)
    intensity = _resegmented(voxels_hu[box], mask, settings)
    if pyradiomics_mode and (settings.resegment_hu or settings.resegment_sigma) and intensity.any():
        inner = _box_of(intensity)
        mask, intensity, box = mask[inner], intensity[inner], _nested(box, inner)
    return Region(voxels_hu, box, spacing_mm, mask, intensity)


def resampling_mib(shape: tuple[int, ...], box: Box, spacing_mm: Spacing, settings: RadiomicsSettings) -> float:
    """Return the memory that the new grid of an organ takes, in MiB; 0 if the settings ask for none.

    Parameters
    ----------
    shape : tuple of int
        Of the whole image.
    box, spacing_mm, settings
        As for `prepare`.
    """
    if not any(settings.spacing_mm):
        return 0.0
    new_mm = _new_spacing(settings, spacing_mm)
    if settings.mode is RadiomicsMode.IBSI:
        margin = _filter_reach(settings, new_mm)
        voxels = resampled_voxels(shape, box, spacing_mm, new_mm, margin, periodic=_is_periodic(settings))
    else:
        steps = zip(box, spacing_mm, new_mm, strict=True)
        voxels = math.prod(
            math.ceil((part.stop - part.start) * old / new) + _PYRADIOMICS_MARGIN for part, old, new in steps
        )
    return voxels * _RESAMPLING_BYTES / 2**20


def _resegmented(voxels_hu: Voxels, mask: Mask, settings: RadiomicsSettings) -> Mask:
    """Keep the voxels of the mask within the range, and of those the ones within the standard deviations."""
    intensity = mask
    if settings.resegment_hu:
        low, high = settings.resegment_hu
        intensity = intensity & (voxels_hu >= low) & (voxels_hu <= high)
    if settings.resegment_sigma and intensity.any():
        values: NDArray[np.floating] = voxels_hu[intensity]
        if settings.mode is RadiomicsMode.IBSI:
            values = values.astype(np.float64)  # pyradiomics computes mean and limits in float32
        mean, width = values.mean(), values.std() * settings.resegment_sigma
        intensity = intensity & (voxels_hu >= mean - width) & (voxels_hu <= mean + width)
    return intensity


def _ibsi_grid(
    voxels_hu: Voxels, mask: Mask, box: Box, spacing_mm: Spacing, settings: RadiomicsSettings
) -> tuple[Voxels, Mask, Box, Spacing]:
    spacing = _new_spacing(settings, spacing_mm)
    margin = _filter_reach(settings, spacing)
    voxels, inside = resampled(
        voxels_hu, mask, box, spacing_mm, spacing, settings.interpolation, margin, periodic=_is_periodic(settings)
    )
    there = _box_of(inside)
    return voxels, inside[there], there, spacing


def _pyradiomics_grid(
    voxels_hu: Voxels, mask: Mask, box: Box, spacing_mm: Spacing, settings: RadiomicsSettings
) -> tuple[Voxels, Mask, Box, Spacing]:
    """Resample with pyradiomics' own code. It needs the whole image: its grid starts at the corner of voxel one."""
    whole = np.zeros(voxels_hu.shape, np.uint8)
    whole[box] = mask
    image, label = sitk.GetImageFromArray(voxels_hu), sitk.GetImageFromArray(whole)
    for one in (image, label):
        one.SetSpacing(spacing_mm[::-1])  # type: ignore[no-untyped-call]
    image, label = pyradiomics().imageoperations.resampleImage(
        image,
        label,
        resampledPixelSpacing=settings.spacing_mm[::-1],
        interpolator=_INTERPOLATORS[settings.interpolation],
    )
    inside = sitk.GetArrayFromImage(label) == 1
    there = _box_of(inside)
    z_mm, y_mm, x_mm = image.GetSpacing()[::-1]
    return sitk.GetArrayFromImage(image), inside[there], there, (z_mm, y_mm, x_mm)


def _new_spacing(settings: RadiomicsSettings, spacing_mm: Spacing) -> Spacing:
    z, y, x = (new or old for new, old in zip(settings.spacing_mm, spacing_mm, strict=True))
    return z, y, x


def _is_periodic(settings: RadiomicsSettings) -> bool:
    """Say whether a filter reads the far end of the image."""
    return settings.wavelet or any(responses.is_periodic(parse_filter(text)) for text in settings.filters)


def _filter_reach(settings: RadiomicsSettings, spacing_mm: Spacing) -> int:
    """Return how many new voxels around the organ its filtered images and intensity peaks depend on."""
    sigma = max((_FILTER_REACH_SIGMA * sigma / min(spacing_mm) for sigma in settings.log_sigma_mm), default=0.0)
    sphere = max(local_intensity.reach(spacing_mm)) if FeatureClass.LOCAL_INTENSITY in settings.classes else 0
    chosen = [max(responses.reach(spacing_mm, parse_filter(text))) for text in settings.filters]
    return max(math.ceil(sigma), sphere, *chosen, _WAVELET_REACH if settings.wavelet else 0)


def _box_of(mask: Mask) -> Box:
    """Return the smallest box around the mask; an empty box for an empty mask."""
    return box_of(mask) or (slice(0, 0), slice(0, 0), slice(0, 0))


def _nested(outer: Box, inner: Box) -> Box:
    """Translate a box given within another box to the coordinates of that other box."""
    z, y, x = (slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True))
    return z, y, x
