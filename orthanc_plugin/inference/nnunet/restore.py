"""Turn class values on the working grid into labels on the image's grid: resample and decide slice by slice.

Order-1 resampling is separable: two slices of class values give one slice of labels. So a volume of class values never
exists on the image's grid. It also stays between the values that it interpolates. So in each band of rows, only the
classes whose highest value reaches the highest of all lowest values can win, and no other is resampled: in air, none
is. Axes can be transposed at the end, when labels are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, softmax

from orthanc_plugin.catalog.nnunet import Configuration, Framework
from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.inference.grid import Field
from orthanc_plugin.inference.nnunet.preprocess import Prepared
from orthanc_plugin.inference.nnunet.resample import separate_axis
from orthanc_plugin.inference.nnunet.window import Slab
from orthanc_plugin.inference.probabilities import Shares, in_bytes

_BAND_ROWS = 64
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""How far above its inputs an interpolated value can come, relative to the largest of all values."""


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
class _Band:
    """Rows of every slice. rows: on the image's grid; inputs, taps: on the working grid, along y."""

    rows: slice
    inputs: slice
    taps: Taps


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """Class values (heads, y, x) of a slice of the working grid, and their extremes (heads, bands)."""

    values: Field
    upper: Field
    lower: Field


@dataclass(frozen=True, slots=True, eq=False)
class _Between:
    """The two slices around an output slice, and the weight of the upper one."""

    low: _Plane
    high: _Plane
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


def restore(
    members: Sequence[Member], out: Labels, *, regions: bool = False, threads: int = 1, shares: Shares | None = None
) -> None:
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
    shares : (heads, z, y, x) uint8, optional
        Gets the probability of each head, 255 for certain; may be a view.

    Source
    ------
    nnU-Net v1 `save_segmentation_nifti_from_softmax`, `ensemble_predictions.merge_files`; v2
    `LabelManager.convert_logits_to_segmentation`, `ensemble.average_probabilities`.
    """
    bands = [_bands(member.taps[1]) for member in members]
    slices = zip(*(_between(*each) for each in zip(members, bands, strict=True)), strict=True)
    with CarryingPool(threads) as pool:
        for z, (plane, between) in enumerate(zip(out, slices, strict=True)):
            list(pool.map(partial(_decide, members, between, bands, plane, regions), range(len(bands[0]))))
            if shares is not None:
                list(pool.map(partial(_share, members, between, bands, shares[:, z], regions), range(len(bands[0]))))


def _bands(y: Taps) -> list[_Band]:
    """Divide a slice into bands that stay in a core's cache."""
    size = len(y.weight)
    spans = (slice(start, min(start + _BAND_ROWS, size)) for start in range(0, size, _BAND_ROWS))
    return [_Band(span, *y.part(span)) for span in spans]


def _between(member: Member, bands: Sequence[_Band]) -> Iterator[_Between]:
    """Yield, for each output slice, the two around it; hold only two slices of a slab, as float32."""
    planes = ((slab.start + n, slab.values[:, n]) for slab in member.slabs for n in range(slab.values.shape[1]))
    held: dict[int, _Plane] = {}
    z = member.taps[0]
    for low, high, weight in zip(z.low.tolist(), z.high.tolist(), z.weight, strict=True):
        while high not in held:
            index, values = next(planes)
            held[index] = _plane(values.astype(np.float32), bands)
            held.pop(index - 2, None)
        yield _Between(held[low], held[high], weight)


def _plane(values: Field, bands: Sequence[_Band]) -> _Plane:
    parts = [values[:, band.inputs] for band in bands]
    upper, lower = (np.stack([end(part, axis=(1, 2)) for part in parts], axis=1) for end in (np.max, np.min))
    return _Plane(values, upper, lower)


def _decide(
    members: Sequence[Member],
    between: Sequence[_Between],
    bands: Sequence[Sequence[_Band]],
    out: Labels,
    regions: bool,
    number: int,
) -> None:
    """Write the labels of one band of a slice."""
    labels = out[bands[0][number].rows]
    along = [(each[number], member.taps[2]) for each, member in zip(bands, members, strict=True)]
    if len(members) == 1:
        logits = members[0].framework is Framework.V2
        threshold = 0.0 if logits else 0.5  # sigmoid(0) = 0.5
        heads = _contenders(between[0], number, threshold if regions else None)
        values = _values(between[0], *along[0], heads)
    else:
        heads, threshold = range(len(between[0].low.values)), 0.5
        stacks = [np.stack(list(_values(pair, *each, heads))) for pair, each in zip(between, along, strict=True)]
        values = iter(_mean_probability(members, stacks, regions))
    if regions:
        labels[...] = 0
        _paint_regions(heads, values, labels, threshold)
    else:
        labels[...] = heads[0] if len(heads) == 1 else _highest(heads, values)


def _share(
    members: Sequence[Member],
    between: Sequence[_Between],
    bands: Sequence[Sequence[_Band]],
    out: Shares,
    regions: bool,
    number: int,
) -> None:
    """Write the probabilities of one band of a slice."""
    heads = range(len(between[0].low.values))
    stacks = [
        np.stack(list(_values(pair, each[number], member.taps[2], heads)))
        for pair, each, member in zip(between, bands, members, strict=True)
    ]
    out[:, bands[0][number].rows] = in_bytes(_mean_probability(members, stacks, regions))


def _contenders(pair: _Between, band: int, threshold: float | None) -> Sequence[int]:
    """Return the heads that can win somewhere in a band, or that can come above the threshold."""
    upper = np.maximum(pair.low.upper[:, band], pair.high.upper[:, band])
    lower = np.minimum(pair.low.lower[:, band], pair.high.lower[:, band])
    floor = lower.max() if threshold is None else threshold
    largest = max(abs(upper).max(), abs(lower).max())
    heads: list[int] = np.flatnonzero(upper >= floor - _ROUNDING * largest).tolist()
    return heads


def _values(pair: _Between, band: _Band, x: Taps, heads: Iterable[int]) -> Iterator[Field]:
    """Yield the values (rows, x) of some heads on the image's grid."""
    low, high = pair.low.values[:, band.inputs], pair.high.values[:, band.inputs]
    for head in heads:
        plane = low[head] * (1 - pair.weight) + high[head] * pair.weight if pair.weight else low[head]
        yield _interpolate(_interpolate(plane, x, 1), band.taps, 0)


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


def _mean_probability(members: Sequence[Member], stacks: Sequence[Field], regions: bool) -> Field:
    """Average probabilities (heads, rows, x), in place: v2 members give logits, v1 members probabilities."""
    for member, stack in zip(members, stacks, strict=True):
        if member.framework is Framework.V2 and regions:
            expit(stack, out=stack)
        elif member.framework is Framework.V2:
            stack[...] = softmax(stack, axis=0)
    return np.asarray(np.mean(stacks, axis=0))


def _highest(heads: Sequence[int], values: Iterator[Field]) -> Labels:
    best = next(values)
    labels = np.full(best.shape, heads[0], np.uint8)
    for head, each in zip(heads[1:], values, strict=True):
        np.copyto(labels, head, where=each > best)
        np.maximum(best, each, out=best)
    return labels


def _paint_regions(heads: Sequence[int], values: Iterator[Field], labels: Labels, threshold: float) -> None:
    for head, each in zip(heads, values, strict=True):
        np.copyto(labels, head + 1, where=each > threshold)
