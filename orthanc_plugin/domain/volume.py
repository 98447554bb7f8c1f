"""A CT series that the loader vouches for: voxels in HU, their place in the patient, and the headers of the slices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.identity import SeriesIdentity

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]

_HALFWAY = 1e-3


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


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where the source slices lie on a volume that was resampled from them.

    Slices are moved by whole pixels, so that a mask goes to the volume and back without a change.

    z: (n,) float64, rising; where each source slice lies along z, in voxels of the volume.
    corners: (n, 2) intp; row and column of the volume on which the first pixel of each source slice lies.
    size: rows and columns of a source slice.
    """

    z: NDArray[np.float64]
    corners: NDArray[np.intp]
    size: tuple[int, int]

    def nearest_slices(self, count: int) -> NDArray[np.intp]:
        """Give the source slice nearest to each of `count` volume slices; halfway, the lower and the upper by turns.

        Always the same side would make a structure too large where it tapers off and too small where it grows.
        """
        slices = np.arange(count)
        lower = np.clip(np.searchsorted(self.z, slices, side="right") - 1, 0, len(self.z) - 2)
        part = (slices - self.z[lower]) / (self.z[lower + 1] - self.z[lower])
        is_upper = part > 0.5
        halfway = np.flatnonzero(np.abs(part - 0.5) < _HALFWAY)
        is_upper[halfway] = np.arange(len(halfway)) % 2 == 1
        return np.asarray(lower + is_upper)

    def window(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the volume that a source slice covers."""
        (top, left), (rows, columns) = self.corners[index], self.size
        return slice(top, top + rows), slice(left, left + columns)

    def to_source(self, labels: Labels) -> Labels:
        """Put a label map of the volume (z, y, x) onto the source slices (n, rows, columns), nearest neighbour."""
        nearest = np.clip(np.rint(self.z).astype(np.intp), 0, len(labels) - 1)
        return np.stack([labels[k][self.window(index)] for index, k in enumerate(nearest)])

    def to_volume(self, labels: Labels, shape: tuple[int, ...]) -> Labels:
        """Put a label map of the source slices (n, rows, columns) onto the volume (z, y, x), nearest neighbour."""
        placed = np.zeros(shape, labels.dtype)
        for k, index in enumerate(self.nearest_slices(shape[0])):
            placed[k][self.window(index)] = labels[index]
        return placed


@dataclass(frozen=True, slots=True)
class CtSeries:
    """A volume with its source headers.

    headers: one dataset for each source slice, rising in z, without pixel data: as received, or made of the functional
        groups of one frame. It is one for each slice of the volume unless there is a placement.
    frame_of_reference_uid: frame of reference of the results: that of the series, or a derived one if every slice has
        another (de-identified archives).
    notes: what the loader regularised; reports repeat it.
    marks: what every result must say: the volume was resampled, slices were interpolated, one phase was chosen.
    placement: where the source slices lie on a resampled volume; None where the slices are the volume.
    variant: how the rule had the series read, where that decides the voxels; enters the UIDs of results.
    """

    identity: SeriesIdentity
    volume: Volume
    headers: tuple[Dataset, ...]
    frame_of_reference_uid: str
    notes: tuple[str, ...] = field(default=())
    marks: tuple[str, ...] = field(default=())
    placement: Placement | None = None
    variant: str = ""

    def header_at(self, slice_index: int) -> Dataset:
        """Give the header of the source slice at, or nearest to, a slice of the volume."""
        return self.headers[self.source_index(slice_index)]

    def source_plane(self, slice_index: int) -> Voxels:
        """Give a slice of the volume as far as the source slice at, or nearest to, it goes; (rows, columns)."""
        plane = self.volume.voxels_hu[slice_index]
        part = ... if self.placement is None else self.placement.window(self.source_index(slice_index))
        return np.asarray(plane[part])

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """Source slices, and the rows and columns of each."""
        rows, columns = self.volume.voxels_hu.shape[1:] if self.placement is None else self.placement.size
        return len(self.headers), rows, columns

    def on_source(self, labels: Labels) -> Labels:
        """Put a label map of the volume onto the source slices."""
        return labels if self.placement is None else self.placement.to_source(labels)

    def on_volume(self, labels: Labels) -> Labels:
        """Put a label map of the source slices onto the volume."""
        if self.placement is None:
            return labels
        return self.placement.to_volume(labels, self.volume.voxels_hu.shape)

    def source_index(self, slice_index: int) -> int:
        """Give the source slice at, or nearest to, a slice of the volume."""
        return slice_index if self.placement is None else int(np.abs(self.placement.z - slice_index).argmin())
