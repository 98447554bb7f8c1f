"""Find the outline of the body in single slices, and how much of it lies on the edge of the reconstructed field.

The field is the image, or the circle in it outside of which every slice holds padding. The body is the largest piece
denser than -300 HU once thin things (the couch, clothes, tubes) are taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import Volume, Voxels
from orthanc_plugin.quality.tissue import TISSUE_HU

_PADDING_HU = -1024.0
_LARGEST = 160
_OPENING_MM = 9.0
_LEAST_BODY_MM2 = 2000.0
_EDGE_PIXELS = 1.5


@dataclass(frozen=True, slots=True)
class Outline:
    """The body in one slice: pixels of its outline, and those of them on the edge of the field."""

    length: int
    on_edge: int


def outlines(volume: Volume, indices: Iterable[np.intp]) -> Iterator[Outline]:
    """Give the outline in each of these slices; it has no length where there is no body."""
    step = max(1, int(np.ceil(max(volume.voxels_hu.shape[1:]) / _LARGEST)))
    chosen = [int(index) for index in indices]
    edge = _edge(volume.voxels_hu[chosen, ::step, ::step])
    pixel_mm = (step * volume.spacing_mm[1], step * volume.spacing_mm[2])
    for index in chosen:
        yield _outline(body_mask(volume.voxels_hu[index, ::step, ::step], pixel_mm), edge)


def body_mask(plane: Voxels, pixel_mm: tuple[float, float]) -> Mask:
    """Find the body in one slice (rows, columns), holes filled; empty where there is none."""
    radius = max(1, round(_OPENING_MM / 2 / min(pixel_mm)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = y * y + x * x <= radius * radius
    dense = np.pad(plane > TISSUE_HU, radius, mode="edge")  # what leaves the image goes on beyond its edge
    opened = ndimage.binary_opening(ndimage.binary_fill_holes(dense), disk)[radius:-radius, radius:-radius]
    pieces, count = ndimage.label(opened)
    if not count:
        return np.zeros(plane.shape, bool)
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() * pixel_mm[0] * pixel_mm[1] < _LEAST_BODY_MM2:
        return np.zeros(plane.shape, bool)
    return np.asarray(ndimage.binary_fill_holes(pieces == 1 + int(sizes.argmax())))


def _edge(planes: Voxels) -> Mask:
    """Pixels on the edge of the field, or beyond it."""
    filled = (planes > _PADDING_HU).any(axis=0)
    distance = _from_centre(filled.shape)
    radius = float(distance[filled].max(initial=0.0))
    edge = np.asarray(distance > radius - _EDGE_PIXELS)
    edge[[0, -1], :] = edge[:, [0, -1]] = True
    return edge


def _from_centre(shape: tuple[int, ...]) -> NDArray[np.float64]:
    y, x = np.indices(shape)
    return np.asarray(np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2))


def _outline(body: Mask, edge: Mask) -> Outline:
    rim = body & ~ndimage.binary_erosion(body)
    return Outline(int(rim.sum()), int((rim & edge).sum()))
