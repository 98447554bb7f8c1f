"""2D shape of a structure on the axial slice where it is largest.

One slice is small enough for pyradiomics' own C code, which measures its outline and diameter.
"""

from __future__ import annotations

import numpy as np

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.resample import Spacing
from orthanc_plugin.radiomics.shape import axis_lengths


def shape2d_features(mask: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Measure the features of pyradiomics' class `shape2D` on the largest axial slice, by its names.

    Parameters
    ----------
    mask : ndarray, shape (z, y, x), bool
        The structure, z upward; not empty.
    spacing_mm : (z, y, x)

    Returns
    -------
    dict
        Feature name to value; mm, mm2, 1/mm or ratio. Elongation is NaN if the slice has only one voxel. Of slices of
        equal area the lowest counts.

    Raises
    ------
    ConfigError
        If pyradiomics is not installed.

    Source
    ------
    pyradiomics 3.0.1, `shape2D.py` and `cshape.c`.
    """
    largest = largest_slice(mask)
    pixel_mm = np.array(spacing_mm[1:])
    perimeter, surface, diameter = pyradiomics().cShape.calculate_coefficients2D(np.pad(largest, 1), pixel_mm)
    _, minor, major = map(float, axis_lengths(largest[None], spacing_mm))
    return {
        "MeshSurface": float(surface),
        "PixelSurface": float(np.count_nonzero(largest) * np.prod(pixel_mm)),
        "Perimeter": float(perimeter),
        "PerimeterSurfaceRatio": float(perimeter / surface),
        "Sphericity": float(2 * np.sqrt(np.pi * surface) / perimeter),
        "MaximumDiameter": float(diameter),
        "MajorAxisLength": major,
        "MinorAxisLength": minor,
        "Elongation": minor / major if major else float("nan"),
    }


def largest_slice(mask: Mask) -> Mask:
    """Return the axial slice with most voxels (the lowest of equals), cropped, (y, x)."""
    one = mask[np.count_nonzero(mask, axis=(1, 2)).argmax()]
    y, x = np.nonzero(one)
    return np.asarray(one[y.min() : y.max() + 1, x.min() : x.max() + 1])
