"""Turn class values on the working grid into labels on the image's grid: resample and decide slice by slice.

Order-1 resampling is separable: two slices of class values give one slice of labels. So a volume of class values never
exists on the image's grid. Axes can be transposed at the end, when labels are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, softmax

from orthanc_plugin.catalog.nnunet import Configuration, Framework
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.inference.grid import Field
from orthanc_plugin.inference.nnunet.preprocess import Prepared
from orthanc_plugin.inference.nnunet.resample import separate_axis
from orthanc_plugin.inference.nnunet.window import Slab

_BAND_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Interpolation along one axis: out[i] = in[low[i]] * (1 - weight[i]) + in[high[i]] * weight[i]."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: Field

    @property
    def exact(self) -> bool:
        """Whether each output is exactly one input."""
        return not self.weight.any()

    def part(self, span: slice) -> tuple[slice, Taps]:
        """Return the inputs that the outputs of `span` need, and their taps."""
        first, last = int(self.low[span].min()), int(self.high[span].max())
        return slice(first, last + 1), Taps(self.low[span] - first, self.high[span] - first, self.weight[span])


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One configuration's result: its slabs, and the taps of each network axis (z, y, x)."""

    slabs: Iterable[Slab]
    taps: tuple[Taps, Taps, Taps]
    framework: Framework


@dataclass(frozen=True, slots=True, eq=False)
class _Between:
    """Class values (heads, y, x) of the two slices around an output slice, and the weight of the upper one."""

    low: Field
    high: Field
    weight: np.float32


def taps(size_in: int, size_out: int, order: int) -> Taps:
    """Make taps of order 0 or 1 between grids of the same extent, with edge values continued.

    Source
    ------
    scikit-image `resize` (mode edge, no anti-aliasing) as both nnU-Nets call it: input coordinate of output i is
    (i + 0.5) * size_in / size_out - 0.5.
    """
    centres = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    if order == 0:
        line = np.arange(size_in, dtype=np.float64)
        nearest = ndimage.map_coordinates(line, centres[None], order=0, mode="nearest").astype(np.intp)
        return Taps(nearest, nearest, np.zeros(size_out, np.float32))
    inside = np.clip(centres, 0, size_in - 1)
    low = np.floor(inside).astype(np.intp)
    weight = (inside - low).astype(np.float32)
    return Taps(low, np.where(weight > 0, low + 1, low), weight)


def way_back(configuration: Configuration, prepared: Prepared) -> tuple[Taps, Taps, Taps]:
    """Make the taps of the three network axes, from the working grid to the cropped image.

    Source
    ------
    The coarse axis: v1 `save_segmentation_nifti_from_softmax` looks at the image's spacing first, untransposed, then at
    the target's, which it leaves in network order (so does this function). v2
    `convert_predicted_logits_to_segmentation_with_correct_shape` looks at the working spacing first, in network axes.
    """
    resampling, forward = configuration.output_resampling, configuration.transpose_forward
    if configuration.framework is Framework.V1:
        image_mm = [prepared.spacing_mm[axis] for axis in configuration.transpose_backward]
        axis = separate_axis(image_mm, prepared.target_mm, resampling.force_separate_z)
        separate = None if axis is None else forward.index(axis)
    else:
        separate = separate_axis(prepared.target_mm, prepared.spacing_mm, resampling.force_separate_z)
    orders = [resampling.order_z if axis == separate else resampling.order for axis in range(3)]
    z, y, x = (taps(*sizes) for sizes in zip(prepared.data.shape[1:], prepared.cropped_shape, orders, strict=True))
    return z, y, x


def restore(members: Sequence[Member], out: Labels, *, regions: bool = False, threads: int = 1) -> None:
    """Write the labels that the heads give.

    Parameters
    ----------
    members : sequence of Member
        One, or several whose probabilities are averaged on the image's grid. They share transposition and crop box.
    out : (z, y, x) uint8
        The cropped image in network axes; may be a view. It gets the number of the highest head, the first of equal
        ones; with `regions`, the number + 1 of the last head above one half, else 0.
    regions : bool
        Whether heads are independent masks.
    threads : int
        How many bands of a slice are processed at once.

    Source
    ------
    nnU-Net v1 `save_segmentation_nifti_from_softmax`, `ensemble_predictions.merge_files`; v2
    `LabelManager.convert_logits_to_segmentation`, `ensemble.average_probabilities`.
    """
    bands = [slice(start, min(start + _BAND_ROWS, out.shape[1])) for start in range(0, out.shape[1], _BAND_ROWS)]
    slices = zip(*(_between(member.slabs, member.taps[0]) for member in members), strict=True)
    with ThreadPoolExecutor(threads) as pool:
        for plane, between in zip(out, slices, strict=True):
            list(pool.map(partial(_decide, members, between, plane, regions), bands))


def _between(slabs: Iterable[Slab], z: Taps) -> Iterator[_Between]:
    """Yield, for each output slice, the two around it; hold only two slices of a slab, as float32."""
    planes = ((slab.start + index, slab.values[:, index]) for slab in slabs for index in range(slab.values.shape[1]))
    held: dict[int, Field] = {}
    for low, high, weight in zip(z.low.tolist(), z.high.tolist(), z.weight, strict=True):
        while high not in held:
            index, plane = next(planes)
            held[index] = plane.astype(np.float32)
            held.pop(index - 2, None)
        yield _Between(held[low], held[high], weight)


def _decide(members: Sequence[Member], between: Sequence[_Between], out: Labels, regions: bool, rows: slice) -> None:
    """Write the labels of some rows of a slice."""
    heads = [_heads(member, pair, rows) for member, pair in zip(members, between, strict=True)]
    if len(members) == 1:
        logits = members[0].framework is Framework.V2
        values, threshold = heads[0], 0.0 if logits else 0.5  # sigmoid(0) = 0.5
    else:
        values, threshold = iter(_mean_probability(members, heads, regions)), 0.5
    labels = np.zeros(out[rows].shape, np.uint8)
    if regions:
        _paint_regions(values, labels, threshold)
    else:
        _paint_highest(values, labels)
    out[rows] = labels


def _heads(member: Member, between: _Between, rows: slice) -> Iterator[Field]:
    """Yield each head's values (rows, x) on the image's grid."""
    span, y = member.taps[1].part(rows)
    for low, high in zip(between.low[:, span], between.high[:, span], strict=True):
        plane = low * (1 - between.weight) + high * between.weight if between.weight else low
        yield _interpolate(_interpolate(plane, member.taps[2], 1), y, 0)


def _interpolate(plane: Field, along: Taps, axis: int) -> Field:
    low = plane.take(along.low, axis)
    if along.exact:
        return low
    weight = along.weight if axis else along.weight[:, None]
    high = plane.take(along.high, axis)
    high -= low
    high *= weight
    low += high
    return low


def _mean_probability(members: Sequence[Member], heads: Sequence[Iterator[Field]], regions: bool) -> Field:
    """Average probabilities (heads, rows, x): v2 members give logits, v1 members probabilities."""
    stacks = [np.stack(list(values)) for values in heads]
    for member, stack in zip(members, stacks, strict=True):
        if member.framework is Framework.V2 and regions:
            expit(stack, out=stack)
        elif member.framework is Framework.V2:
            stack[...] = softmax(stack, axis=0)
    return np.asarray(np.mean(stacks, axis=0))


def _paint_highest(heads: Iterator[Field], labels: Labels) -> None:
    best = next(heads)
    for number, values in enumerate(heads, start=1):
        np.copyto(labels, number, where=values > best)
        np.maximum(best, values, out=best)


def _paint_regions(heads: Iterator[Field], labels: Labels, threshold: float) -> None:
    for number, values in enumerate(heads, start=1):
        np.copyto(labels, number, where=values > threshold)
