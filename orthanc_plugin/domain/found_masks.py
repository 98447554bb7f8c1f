"""Masks that others made, on the grid of a CT: what a SEG or an RT structure set of any maker holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation

MOST_LABELS = 255
Planes = Mapping[int, NDArray[np.intp]]
"""The pixels of a structure on each slice that shows it: index of the slice, and flat indices of the pixels."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A segment or ROI as its object describes it. number: SegmentNumber or ROINumber."""

    number: int
    label: str
    category: Code
    type: Code
    modifier: Code | None = None


@dataclass(frozen=True, slots=True)
class FoundMasks:
    """The masks of one object.

    layers: label maps on the grid of the volume. Structures of one layer do not overlap, and the structures of an
        object may need several layers. A segment's `number` is that of the object; its `covers` is its label.
    refused: structures that cannot be measured, each with the reason.
    notes: what people should know of the object and how it was read.
    """

    layers: tuple[Segmentation, ...]
    refused: tuple[tuple[Structure, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The structures of all layers, and those that are refused, by number."""
        refused = (as_segment(structure, 0) for structure, _ in self.refused)
        kept = (segment for layer in self.layers for segment in layer.segments)
        return tuple(sorted((*kept, *refused), key=lambda segment: segment.number))


def as_segment(structure: Structure, label: int) -> Segment:
    """Make the segment of a structure that has this label in its layer."""
    return Segment(
        structure.number,
        f"structure_{structure.number}",
        structure.label,
        structure.category,
        structure.type,
        structure.modifier,
        (128, 128, 128),
        (label,),
    )


class Layers:
    """Label maps that are filled structure by structure; one that overlaps those of all layers begins another.

    Parameters
    ----------
    shape : (z, y, x)
        Of the source slices.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._layers: list[tuple[Labels, list[Segment]]] = []

    def add(self, structure: Structure, planes: Planes) -> None:
        """Add a structure, given its pixels on each slice that shows it."""
        labels, segments = self._layer_for(planes)
        segment = as_segment(structure, len(segments) + 1)
        for index, pixels in planes.items():
            labels[index].reshape(-1)[pixels] = segment.covers[0]
        segments.append(segment)

    def _layer_for(self, planes: Planes) -> tuple[Labels, list[Segment]]:
        for labels, segments in self._layers:
            taken = any(bool(labels[index].reshape(-1)[pixels].any()) for index, pixels in planes.items())
            if len(segments) < MOST_LABELS and not taken:
                return labels, segments
        self._layers.append((np.zeros(self._shape, np.uint8), []))
        return self._layers[-1]

    def __iter__(self) -> Iterator[tuple[Labels, tuple[Segment, ...]]]:
        """Yield each label map on the source slices, with its segments."""
        for labels, segments in self._layers:
            yield labels, tuple(segments)
