"""Segmentations: a label map on the grid of its volume, and the meaning of each label."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orthanc_plugin.codes import Code

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

Number = Annotated[int, Field(ge=1, le=255)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Byte = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Byte, Byte, Byte]


@dataclass(frozen=True, slots=True)
class Segment:
    """One structure of a segmentation.

    The types hold what model cards may say; a segment that is made in code is not checked.

    number: its value in the label map, 1..255; in a decoded SEG, its SegmentNumber.
    key: the name in the model card, e.g. `lung_left`.
    label: SegmentLabel, at most 64 characters.
    modifier: optional in a model card.
    colour: sRGB 0..255.
    covers: label values that belong to the structure: its own and those of structures inside it (body covers lungs).
    """

    number: Number
    key: Key
    label: Label
    category: Code
    type: Code
    modifier: Annotated[Code | None, Field(default=None)]
    colour: Colour
    covers: tuple[Number, ...]


def label_counts(labels: Labels) -> NDArray[np.intp]:
    """Count the voxels of each value 0..255 in a label map (z, y, x)."""
    # Slice by slice, as one count over a whole volume takes eight bytes per voxel.
    return sum((np.bincount(plane.ravel(), minlength=256) for plane in labels), np.zeros(256, np.intp))


def box_of(mask: Mask) -> tuple[slice, slice, slice] | None:
    """Find the smallest box (z, y, x) around a mask; None if it is empty.

    A chest takes 5 ms of CPU; scipy's `find_objects`, which expects many labels, takes 230.
    """
    z = np.flatnonzero(mask.any(axis=(1, 2)))
    if not z.size:
        return None
    planes = slice(int(z[0]), int(z[-1]) + 1)
    flat: NDArray[np.bool_] = np.logical_or.reduce(mask[planes], axis=0)
    y, x = (np.flatnonzero(flat.any(axis=axis)) for axis in (1, 0))
    return planes, slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far a model is of one mind about one structure.

    key: the name of the structure in the model card.
    members: number of passes (folds times mirrored copies).
    dice: mean Dice coefficient of the members with their joint result.
    entropy_bits: mean entropy of the joint probabilities in the voxels at the border of the structure.
    """

    key: str
    members: int
    dice: float
    entropy_bits: float


@dataclass(frozen=True, slots=True, eq=False)
class Probability:
    """How probable a model holds each voxel to be of one structure, before any clean-up.

    key: the name of the structure in the model card.
    values: (z, y, x) uint8, 255 for certain; its slices begin at slice `first` of the volume.
    """

    key: str
    values: NDArray[np.uint8]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Structures found by one model.

    labels: (z, y, x) uint8, same grid as the volume, 0 outside every structure.
    segments: structures that are present, numbers ascending; a structure that is absent has no entry.
    notes: remarks of the model on its result, e.g. "one lung only". They are stored with the SEG, so that later reports
        repeat them.
    confidence: of the structures of a model with several members; empty where a SEG was decoded.
    probabilities: of the structures that were found, where they were asked for and the model gives them.
    """

    labels: Labels
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = field(default=())
    confidence: tuple[Confidence, ...] = field(default=())
    probabilities: tuple[Probability, ...] = field(default=())

    def mask(self, segment: Segment) -> Mask:
        """Return the (z, y, x) bool mask of one structure and all that it covers."""
        # Not np.isin: on 72 M voxels it took 3.4 s and 600 MiB, and this takes 0.2 s.
        return np.asarray(reduce(np.logical_or, (self.labels == number for number in segment.covers)))

    def voxels(self) -> tuple[int, ...]:
        """Count the voxels of each structure and all that it covers."""
        counts = label_counts(self.labels)
        return tuple(int(counts[list(segment.covers)].sum()) for segment in self.segments)

    def segment(self, key: str) -> Segment | None:
        """Return the structure of a key, or None if it was not found."""
        return next((s for s in self.segments if s.key == key), None)
