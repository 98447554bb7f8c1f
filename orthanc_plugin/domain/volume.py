"""A CT series that the loader has vouched for: voxels in HU, where they lie, and the headers they came from."""

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

    voxels_hu: (z, y, x) float32, Hounsfield units; z rises through the patient (toward the head for axial series),
        y and x are the rows and columns as stored.
    spacing_mm: (z, y, x).
    affine: 4x4 float64, voxel index (x, y, z, 1) to patient millimetres (LPS).
    """

    voxels_hu: Voxels
    spacing_mm: tuple[float, float, float]
    affine: Affine

    def __post_init__(self) -> None:
        if self.voxels_hu.ndim != 3 or self.voxels_hu.dtype != np.float32:
            raise ValueError("voxels_hu is (z, y, x) float32")

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True, slots=True)
class CtSeries:
    """A volume with its source headers.

    headers: one dataset a slice in the order of `volume.voxels_hu` (z), as received, without pixel data.
    frame_of_reference_uid: the one in which results are expressed; the series' own, or derived where every slice had
        its own (de-identified archives).
    notes: what the loader regularised, for the report.
    """

    identity: SeriesIdentity
    volume: Volume
    headers: tuple[Dataset, ...]
    frame_of_reference_uid: str
    notes: tuple[str, ...] = field(default=())
