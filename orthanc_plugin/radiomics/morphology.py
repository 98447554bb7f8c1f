"""Shape features of IBSI that pyradiomics lacks: asphericity, densities, centre of mass shift, integrated intensity.

Bounding box and convex hull are those of the mesh vertices. The enclosing ellipsoid has the axis lengths of the voxel
centres.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import ConvexHull

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Voxels
from orthanc_plugin.radiomics.resample import Spacing
from orthanc_plugin.radiomics.shape import axis_lengths, mesh, mesh_vertices

_SERIES = 20
"""Terms of the series for the area of an ellipsoid (IBSI manual, area density of the approximate ellipsoid)."""


def morphological_features(
    voxels_hu: Voxels, morphological: Mask, intensity: Mask, spacing_mm: Spacing
) -> dict[str, float]:
    """Measure the class `morphology`.

    Parameters
    ----------
    voxels_hu : ndarray, shape (z, y, x), float32
    morphological, intensity : ndarray, shape (z, y, x), bool
        The mask of the shape and the mask of the voxels whose intensities count; not empty.
    spacing_mm : (z, y, x)

    Returns
    -------
    dict
        Feature name to value; ratio, mm, or HU mm3. Not finite where a volume or a sum of intensities is zero.

    Source
    ------
    IBSI reference manual, morphological features.
    """
    padded = np.pad(morphological, 1)
    area, volume = mesh(padded, spacing_mm)
    vertices = mesh_vertices(padded, spacing_mm)
    hull, extent = ConvexHull(vertices), np.ptp(vertices, axis=0)
    least, minor, major = map(float, axis_lengths(morphological, spacing_mm, sample=True) / 2)
    a, b, c = map(float, extent)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "Asphericity": float(np.cbrt(area**3 / (36 * np.pi * volume**2)) - 1),
            "VolumeDensityBoundingBox": volume / (a * b * c),
            "AreaDensityBoundingBox": area / (2 * (a * b + b * c + a * c)),
            "VolumeDensityEllipsoid": float(np.float64(3 * volume) / (4 * np.pi * least * minor * major)),
            "AreaDensityEllipsoid": float(np.float64(area) / _ellipsoid_area(major, minor, least)),
            "VolumeDensityConvexHull": float(volume / hull.volume),
            "AreaDensityConvexHull": float(area / hull.area),
            "CentreOfMassShift": _centre_of_mass_shift(voxels_hu, morphological, intensity, spacing_mm),
            "IntegratedIntensity": float(volume * voxels_hu[intensity].mean(dtype=np.float64)),
        }


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Add up IBSI's series for half axes a >= b >= c.

    Legendre's recurrence runs on the products of the polynomials with (alpha beta)^n, which stay finite for a sphere.
    """
    if not a:
        return math.nan
    alpha2, beta2 = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    before, term, total = 0.0, 1.0, 0.0
    for n in range(_SERIES + 1):
        total += term / (1 - 4 * n**2)
        step = (2 * n + 1) * (alpha2 + beta2) / 2 * term - n * alpha2 * beta2 * before
        before, term = term, step / (n + 1)
    return 4 * math.pi * a * b * total


def _centre_of_mass_shift(voxels_hu: Voxels, morphological: Mask, intensity: Mask, spacing_mm: Spacing) -> float:
    values = voxels_hu[intensity].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        weighted = values @ np.argwhere(intensity) / values.sum()
    shift = (weighted - np.argwhere(morphological).mean(axis=0)) * spacing_mm
    return float(np.linalg.norm(shift))
