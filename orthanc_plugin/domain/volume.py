"""A CT series that the loader vouches for: voxels in HU, their place in the patient, and the headers of the slices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.identity import SeriesIdentity

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Volume:
    """A CT volume on a regular orthogonal grid.

    voxels_hu: (z, y, x) float32, Hounsfield units. z rises through the patient, toward the head for axial series; y and
        x are the rows and columns as stored.
    spacing_mm: (z, y, x).
    affine: 4x4 float64, voxel index (x, y, z, 1) to patient millimetres (LPS).
    """

    voxels_hu: Voxels
    spacing_mm: tuple[float, float, float]
    affine: Affine

    def __post_init__(self) -> None:
        """Check shape and type of the voxels."""
        if self.voxels_hu.ndim != 3 or self.voxels_hu.dtype != np.float32:
            raise ValueError("voxels_hu must be (z, y, x) float32")

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True, slots=True)
class CtSeries:
    """A volume with its source headers.

    headers: one dataset per slice, in the order of `volume.voxels_hu` (z), as received, without pixel data.
    frame_of_reference_uid: frame of reference of the results: that of the series, or a derived one if every slice has
        another (de-identified archives).
    notes: what the loader regularised; reports repeat it.
    """

    identity: SeriesIdentity
    volume: Volume
    headers: tuple[Dataset, ...]
    frame_of_reference_uid: str
    notes: tuple[str, ...] = field(default=())
