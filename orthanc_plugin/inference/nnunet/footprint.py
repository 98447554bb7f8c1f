"""What an nnU-Net needs in memory beside the CT, estimated from its card before anything is loaded.

It counts the arrays that `preprocess`, `predict` and `restore` hold at the same time, and what the network needs.
docs/decisions/0055-what-limits-a-job.md compares it with measured peaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Configuration, Part
from orthanc_plugin.inference.nnunet.window import SLICES_AT_ONCE, passes_of, slab_type

Extent = tuple[float, float, float]
"""Millimetres along (z, y, x)."""

_FLOAT32 = 4
_COPIES = 2
"""Of the CT on the network's grid: `preprocess` stacks the channels."""
_THINNEST_MM = 0.5
"""Of slices; a planar network keeps the slices of the CT, whose number a card does not tell."""
_PLANES = 3
"""Slices of class values that `restore` holds."""
_SEVERAL_PASSES = 3
"""Tiles of class values at once, where passes are summed and compared."""
_BYTES_A_PATCH_VOXEL, _WEIGHTS_BYTES = 720, 124e6
"""Activations of a network of 31 million weights, in bytes a voxel of its patch; OpenVINO needs more than ONNX Runtime.

Fewer channels make both smaller: weights grow with the square of the channels, activations with the channels.
"""


def network_bytes(card: ModelCard, extent_mm: Extent) -> int:
    """Estimate what a model needs beside the CT and its labels; 0 if it is no nnU-Net.

    Parameters
    ----------
    card : ModelCard
        The model; its graphs lie beside it.
    extent_mm : tuple of float
        Size of the CT along (z, y, x).
    """
    if card.nnunet is None:
        return 0
    along = dict(zip("zyx", extent_mm, strict=True))
    z, y, x = (along[axis[0]] for axis in card.axes)
    frame = card.nnunet.frame
    framed = 0 if frame is None else round((_FLOAT32 + 1) * math.prod(mm / frame.spacing_mm for mm in extent_mm))
    return framed + max((_part_bytes(card, part, (z, y, x)) for part in _parts(card.nnunet.parts)), default=0)


def _parts(parts: tuple[Part, ...]) -> Iterator[Part]:
    for part in parts:
        yield part
        yield from _parts(tuple(c.previous.part for c in part.configurations if c.previous))


def _part_bytes(card: ModelCard, part: Part, extent_mm: Extent) -> int:
    """Sum what averaged configurations hold until the labels are decided; their networks run by turns."""
    held = sum(_held_bytes(configuration, extent_mm) for configuration in part.configurations)
    return held + max(_running_bytes(card, configuration) for configuration in part.configurations)


def _held_bytes(configuration: Configuration, extent_mm: Extent) -> int:
    """Estimate the network's grid, a slab of class values, and the slices that are on their way back."""
    patch = _patch(configuration)
    extent = [extent_mm[axis] for axis in configuration.transpose_forward]
    steps = [step or _THINNEST_MM for step in configuration.spacing_mm]
    z, y, x = (max(math.ceil(mm / step), side) for mm, step, side in zip(extent, steps, patch, strict=True))
    previous = configuration.previous
    channels = 1 if previous is None else previous.part.configurations[0].heads
    slab = (configuration.heads, patch[0], y, x)
    values = slab_type(slab)().itemsize * math.prod(slab)
    return values + _FLOAT32 * (_COPIES * channels * z * y * x + _PLANES * configuration.heads * y * x)


def _running_bytes(card: ModelCard, configuration: Configuration) -> int:
    """Estimate the tiles of class values and the activations of one network."""
    voxels = math.prod(_patch(configuration))
    tiles = 1 if passes_of(configuration) == 1 else _SEVERAL_PASSES
    weights = max((card.directory / graph).stat().st_size for graph in configuration.graphs)
    activations = _BYTES_A_PATCH_VOXEL * min(1.0, math.sqrt(weights / _WEIGHTS_BYTES))
    return round(voxels * (tiles * configuration.heads * _FLOAT32 + activations))


def _patch(configuration: Configuration) -> tuple[int, ...]:
    """Return what the network sees at once; a planar one sees some slices."""
    return (SLICES_AT_ONCE, *configuration.patch_size) if configuration.planar else configuration.patch_size
