"""Count the voxels of a structure along the three axes; extent, centroid and ends follow from the counts.

Counts of several structures add up, so a lung is the sum of its lobes. The label map is read once to find boxes, then
box by box and slice by slice, so no mask of the whole volume is ever made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask, Segmentation
from orthanc_plugin.domain.volume import Affine

Counts = NDArray[np.int64]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Profile:
    """Number of voxels of a structure in each plane of the grid; z, y and x have the lengths of the axes."""

    z: Counts
    y: Counts
    x: Counts

    def __add__(self, other: Profile) -> Profile:
        """Add the counts of two structures."""
        return Profile(self.z + other.z, self.y + other.y, self.x + other.x)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.z.sum())

    @property
    def box(self) -> Box:
        """Bounding box (z, y, x)."""
        z, y, x = (slice(first, last + 1) for first, last in map(_ends, (self.z, self.y, self.x)))
        return z, y, x

    @property
    def slices(self) -> tuple[int, int]:
        """First and last slice."""
        return _ends(self.z)

    @property
    def meets_image_edge(self) -> bool:
        """True if the structure reaches the first or last row or column."""
        return bool(self.y[0] or self.y[-1] or self.x[0] or self.x[-1])

    def centroid_mm(self, affine: Affine) -> NDArray[np.float64]:
        """Compute the centre of mass (x, y, z) in LPS mm."""
        index = [float(counts @ np.arange(counts.size)) / self.voxels for counts in (self.x, self.y, self.z)]
        return np.asarray(affine[:3] @ [*index, 1.0])

    def extent_mm(self, affine: Affine) -> NDArray[np.float64]:
        """Compute the lowest and highest LPS (x, y, z) of the voxel centres at the corners of the box, shape (2, 3).

        In an oblique series the box reaches further than the structure.
        """
        ends = [_ends(counts) for counts in (self.x, self.y, self.z)]
        corners = np.array([[*corner, 1.0] for corner in np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3)])
        points = corners @ affine[:3].T
        return np.stack([points.min(axis=0), points.max(axis=0)])


def profiles(segmentation: Segmentation) -> Mapping[int, Profile]:
    """Make the profile of each structure with all that it covers, by segment number; empty structures have none."""
    labels = segmentation.labels
    boxes = dict(enumerate(ndimage.find_objects(labels), start=1))
    of_values = {
        value: profile_of((plane == value for plane in labels[box]), box, labels.shape)
        for value, box in boxes.items()
        if box is not None
    }
    covered = {
        segment.number: [of_values[value] for value in segment.covers if value in of_values]
        for segment in segmentation.segments
    }
    return {number: reduce(add, parts) for number, parts in covered.items() if parts}


def profile_of(masks: Iterable[Mask], box: Box, shape: tuple[int, ...]) -> Profile:
    """Make a profile from the masks (y, x) of the slices of a box, on a grid (z, y, x) of that shape."""
    z, y, x = (np.zeros(size, np.int64) for size in shape)
    for index, mask in enumerate(masks, start=box[0].start):
        rows = mask.sum(axis=1)
        z[index] = rows.sum()
        y[box[1]] += rows
        x[box[2]] += mask.sum(axis=0)
    return Profile(z, y, x)


def _ends(counts: Counts) -> tuple[int, int]:
    filled = np.flatnonzero(counts)
    return int(filled[0]), int(filled[-1])
