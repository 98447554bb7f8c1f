"""Check that the engine and the network class support the values of plans; refuse any other value by name.

Plans that are nearly supported would give nearly the published labels, and nobody would notice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from orthanc_plugin.catalog.nnunet import Configuration, Normalisation, Resampling, Scheme
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.errors import ModelError

_MOST_HEADS, _MOST_STAGES, _MOST_BLOCKS, _MOST_FEATURES, _MOST_VOXELS = 256, 16, 64, 4096, 2**27
"""Far more than published networks have, but too little for hostile plans to keep a machine busy."""

_CT = re.compile(r"(?<![a-z])(ct|nonorm|z[-_ ]?score)|computed tomography", re.IGNORECASE)


def whole(values: Iterable[SupportsFloat]) -> tuple[int, ...]:
    """Read integers from lists and numpy arrays; v1 stores some of them as floats.

    Raises
    ------
    ValueError
        If a value is not a whole number.
    """
    floats = [float(value) for value in values]
    if any(not value.is_integer() for value in floats):
        raise ValueError(f"{floats} are not whole numbers")
    return tuple(int(value) for value in floats)


def stages_of(count: int) -> int:
    """Check a number of stages before anything is built from it.

    Raises
    ------
    ValueError
        If no supported network has that many.
    """
    if not 2 <= count <= _MOST_STAGES:
        raise ValueError(f"{count} stages")
    return count


def axes_of(values: Iterable[SupportsFloat]) -> tuple[int, int, int]:
    """Read a permutation of three axes."""
    axes = whole(values)
    if sorted(axes) != [0, 1, 2]:
        raise ValueError(f"{axes} is not a permutation of three axes")
    return axes[0], axes[1], axes[2]


def spacing_of(values: Iterable[SupportsFloat], planar: bool) -> tuple[float | None, float, float]:
    """Read target spacing in mm; the first is None for 2d, whose plans hold two values (v2) or three (v1)."""
    *first, row, column = (float(value) for value in values)
    spacing = (None if planar else first[0], row, column)
    if len(first) > 1 or any(not (math.isfinite(mm) and mm > 0) for mm in spacing if mm is not None):
        raise ValueError(f"{(*first, row, column)} is not a spacing")
    return spacing


def resampling(
    file: Path, what: str, order: SupportsIndex, order_z: SupportsIndex, separate: object, highest: int
) -> Resampling:
    """Check spline orders and `force_separate_z` (None, True or False)."""
    if not (isinstance(order, int) and 0 <= order <= highest) or order_z != 0:
        raise ModelError(
            f"{file}: {what} by spline order {order} and {order_z} across slices; supported: 0 to {highest}, and 0"
        )
    if separate is not None and not isinstance(separate, bool):
        raise ModelError(f"{file}: force_separate_z is {separate!r}; allowed are None, True and False")
    return Resampling(order, 0, separate)


def refuse_other_than_ct(channel: str, file: Path) -> None:
    """Refuse a model for another modality; `noNorm` and `zscore` are nnU-Net's names of normalisations."""
    if not _CT.search(channel):
        raise ModelError(f"{file}: the model is for {channel!r} images; only models for CT can be converted")


def without_values(scheme: Scheme, use_mask: bool) -> Normalisation:
    """Make a normalisation that needs no values of the training set."""
    return Normalisation(scheme, 0.0, 0.0, 0.0, 1.0, use_mask)


def check(configuration: Configuration, topology: Topology, file: Path) -> None:
    """Refuse values that are valid one by one but do not make a network together.

    Raises
    ------
    ModelError
        Naming the file and the value.
    """
    for why in _problems(configuration, topology):
        raise ModelError(f"{file}: {configuration.name}: {why}; it is damaged, or a modified nnU-Net wrote it")


def _problems(configuration: Configuration, topology: Topology) -> Iterable[str]:
    forward, backward = configuration.transpose_forward, configuration.transpose_backward
    if any(forward[backward[axis]] != axis for axis in range(3)):
        yield f"transpose_backward {backward} does not undo transpose_forward {forward}"
    normalisation = configuration.normalisation
    values = (normalisation.low_hu, normalisation.high_hu, normalisation.mean_hu, normalisation.sd_hu)
    if not all(math.isfinite(value) for value in values) or normalisation.sd_hu <= 0:
        yield f"intensities {values} cannot normalise"
    patch = configuration.patch_size
    if not 2 <= len(patch) <= 3 or min(patch) < 1 or math.prod(patch) > _MOST_VOXELS:
        yield f"patch_size {configuration.patch_size}"
    if any(axis >= len(patch) for axis in configuration.mirror_axes):
        yield f"mirroring of axes {configuration.mirror_axes}"
    if not 2 <= topology.heads <= _MOST_HEADS:
        yield f"{topology.heads} outputs; 2 to {_MOST_HEADS} can be stored"
    yield from _network_problems(topology)


def _network_problems(topology: Topology) -> Iterable[str]:
    stages, dimensions = len(topology.features), topology.dimensions
    per_stage = (topology.kernels, topology.strides, topology.encoder_blocks)
    if any(len(values) != stages for values in per_stage):
        yield "kernels, strides, blocks and features are of different lengths"
    if any(len(values) != stages - 1 for values in (topology.decoder_convs, topology.decoder_kernels)):
        yield "the decoder has another number of steps than the encoder"
    shapes = (*topology.kernels, *topology.strides, *topology.decoder_kernels)
    if any(len(shape) != dimensions for shape in shapes):
        yield f"kernels or strides are not of {dimensions} dimensions"
    if any(size not in (1, 3, 5, 7) for kernel in (*topology.kernels, *topology.decoder_kernels) for size in kernel):
        yield f"kernels {topology.kernels}"
    if any(size != 1 for size in topology.strides[0]):
        yield f"the first stage has stride {topology.strides[0]}"
    repeats = (*topology.encoder_blocks, *topology.decoder_convs, *sum(topology.strides, ()))
    if min(*topology.features, *repeats) < 1 or max(repeats) > _MOST_BLOCKS or max(topology.features) > _MOST_FEATURES:
        yield "sizes of the network are out of bounds"
