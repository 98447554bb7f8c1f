"""Whether the values of a volume can be Hounsfield units.

A lost intercept, a picture exported as CT or a wrong slope leaves a volume that looks like one and measures wrongly. A
CT shows air near -1000 HU, or at least fat, and soft tissue near 0 to 100 HU. A volume that shows neither is refused
with its figures; one that shows both in another place is noted with the offset. Zeroed borders, undeclared padding and
metal are no faults.

The check reads a regular sample of every slice as stored, before padding and impossible values become air.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import InputError, Refusal

Sample = NDArray[np.float32]

SAMPLE_VOXELS = 4_000_000
FEWEST_VALUES = 16
COARSE_VALUES = 300
"""8-bit values with a right slope are kept and noted; fewer than 16 values hold no anatomy."""

NOTED_OFFSET_HU = 75
LARGEST_OFFSET_HU = 250
"""Air of real CT lies within 40 HU of -1000, blurred air of thumbnails within 65 (docs/geometry.md)."""

_LOWEST_HU, _AIR_TOP_HU, _FAT_TOP_HU, _HIGHEST_HU = -1300.0, -700.0, -50.0, 10_000.0
_GAP_TOP_HU, _MOST_GAP, _LEAST_BONE_HU = -200.0, 0.1, 150.0
_SOFT_HU = (-160.0, 140.0)
_LEAST_FAT_OR_AIR, _LEAST_SOFT, _LEAST_BODY = 1e-3, 0.1, 1e-4
_LEAST_AIR = 0.01
_MOST_GAP_OF_BODY = 0.6
"""Lung, foam and blurred borders of real CT and phantoms make up to 0.22, a body at half the slope at least 0.72."""
_DENSE_HU, _MOST_DENSE, _DENSE_PER_AIR = 700.0, 0.25, 5.0
"""A quarter of bone, and five times as much bone as air, is air turned into bone."""
_LEAST_CUT_BELOW = 0.2
_LOWEST_TOP_HU, _MOST_CUT_ABOVE, _LEAST_CUT_VOXELS = 500.0, 5e-3, 50
_WRAP_SPAN_HU, _WRAP_REACH, _WRAP_JUMP, _NOTED_JUMPS = 2048.0, 0.95, 0.75, 0.02
_NOTED_BELOW, _MOST_BELOW, _MOST_ABOVE = 1e-4, 0.05, 0.01
_SPIKE_SHARE, _SPIKE_FACTOR = 0.02, 10
_SLICE_AIR, _SLICE_MOST = 0.05, 0.2
_BLANK_SHARE = 0.9
_FEWEST_SLICES = 3
_PADDING_WIDTH_HU = 100.0
_STEP_HU = 5
_SORTED_SPAN_HU = 1e6
_PLACES_HU, _PLACE_WIDTH_HU = (-1000.0, -100.0, 45.0), 30.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a sample shows.

    values: distinct values.
    air_share: part below -700 HU (air and lung).
    low_share: part at most -50 HU (fat, lung or air).
    gap_share: part between lung and fat, -700 to -200 HU, where little of a patient lies.
    bone_hu: the value that one voxel in a thousand exceeds.
    below_share, above_share: parts below -1300 HU other than one padding value, and above 10,000 HU.
    body_share: part above air.
    dense_share: part above 700 HU.
    soft_share: part of the body that is fat or soft tissue.
    light_share: part of the body that is lighter than fat.
    cut_below_share: part that holds the lowest value, where that is neither air nor padding.
    cut_above_share: part of the body that holds the highest value.
    offset_hu: by how much air, fat and soft tissue lie above their usual places.
    """

    lowest_hu: float
    highest_hu: float
    values: int
    air_share: float
    low_share: float
    gap_share: float
    bone_hu: float
    below_share: float
    above_share: float
    body_share: float
    dense_share: float
    soft_share: float
    light_share: float
    cut_below_share: float
    cut_above_share: float
    offset_hu: int


def figures_of(sample: Sample) -> Figures:
    """Measure a sample of HU, padding left out; (n,) float32, n > 0."""
    offset = _offset_hu(sample)
    body = sample[sample > _AIR_TOP_HU + offset]
    soft = (body >= _SOFT_HU[0] + offset) & (body <= _SOFT_HU[1] + offset)
    lowest, highest = float(sample.min()), float(sample.max())
    return Figures(
        lowest_hu=lowest,
        highest_hu=highest,
        values=_distinct(sample, lowest, highest),
        air_share=float((sample < _AIR_TOP_HU).mean()),
        gap_share=float(((sample > _AIR_TOP_HU) & (sample < _GAP_TOP_HU)).mean()),
        bone_hu=float(np.quantile(sample, 0.999)),
        low_share=float((sample <= _FAT_TOP_HU).mean()),
        below_share=_below_share(sample),
        above_share=float((sample > _HIGHEST_HU).mean()),
        body_share=len(body) / len(sample),
        dense_share=float((sample > _DENSE_HU).mean()),
        soft_share=float(soft.mean()) if len(body) else 0.0,
        light_share=float((body < _GAP_TOP_HU + offset).mean()) if len(body) else 0.0,
        cut_below_share=float((sample == lowest).mean()) if lowest > _AIR_TOP_HU else 0.0,
        cut_above_share=_cut_above_share(body, highest),
        offset_hu=offset,
    )


def check_plausible(slices: Sequence[Sample], rescales: Sequence[Hashable] = ()) -> tuple[str, ...]:
    """Note what is odd about the values of a volume, or refuse them.

    Parameters
    ----------
    slices : sequence of ndarray
        A sample of each slice in HU, padding left out; a slice may be empty.
    rescales : sequence
        The rescale of each slice, to compare slices of different ones; empty where they are not compared.

    Raises
    ------
    InputError
        IMPLAUSIBLE_HU, with the figures that say so.
    """
    sample = np.concatenate(slices)
    if not len(sample):
        raise InputError(Refusal.IMPLAUSIBLE_HU, "every pixel is padding; send the CT reconstruction")
    found = figures_of(sample)
    if fault := _fault(found):
        span = f"the values run from {found.lowest_hu:.6g} to {found.highest_hu:.6g} HU"
        raise InputError(Refusal.IMPLAUSIBLE_HU, f"{fault}; {span}; send the CT reconstruction with its own rescale")
    _check_slices(slices, found)
    return (*_notes(found), *_apart(slices, rescales))


def fills_11_bits(samples: Sequence[Sample]) -> bool:
    """Tell whether bone may have wrapped; with 12 bits, metal beside air would look the same, so that is not asked."""
    filled = [sample for sample in samples if len(sample)]
    span = max(float(sample.max()) for sample in filled) - min(float(sample.min()) for sample in filled)
    return _WRAP_REACH * _WRAP_SPAN_HU < span < _WRAP_SPAN_HU


def wrapped(planes: Sequence[Sample]) -> tuple[str, ...]:
    """Note bone that has become air because BitsStored is too small for it: dense voxels right beside air.

    Parameters
    ----------
    planes : sequence of ndarray, shape (rows, columns)
        Slices in HU, neighbours along a row side by side; rows may be left out.

    Returns
    -------
    tuple of str
        One note or none.
    """
    jumps = sum(int((np.abs(np.diff(plane)) > _WRAP_JUMP * _WRAP_SPAN_HU).sum()) for plane in planes)
    dense = sum(int((plane > _DENSE_HU).sum()) for plane in planes)
    if jumps <= _NOTED_JUMPS * dense:
        return ()
    return ("dense bone touches air in many places, and all values fit into 11 bits: bone may have become air",)


def sampling_step(voxels: int) -> int:
    """Every how many rows and columns to look at, so that the sample of the volume stays small."""
    return max(1, int(np.ceil(np.sqrt(voxels / SAMPLE_VOXELS))))


def _fault(found: Figures) -> str:
    if found.values < FEWEST_VALUES:
        return f"the volume holds only {found.values} different value(s)"
    if found.above_share > _MOST_ABOVE:
        return f"{found.above_share:.1%} of the voxels lie above 10,000 HU"
    if found.below_share > _MOST_BELOW:
        return f"{found.below_share:.1%} of the voxels lie below -1300 HU and are no padding"
    if found.low_share < _LEAST_FAT_OR_AIR:
        return f"only {found.low_share:.2%} of the voxels lie below -50 HU: there is no air near -1000 HU and no fat"
    if found.air_share < _LEAST_FAT_OR_AIR and (found.gap_share > _MOST_GAP or found.bone_hu < _LEAST_BONE_HU):
        return "there is no air near -1000 HU, and what is left is not the inside of a body: the slope is wrong"
    if found.cut_below_share > _LEAST_CUT_BELOW:
        return f"{found.cut_below_share:.0%} of the voxels hold the lowest value: everything below it was cut off"
    if found.highest_hu < _LOWEST_TOP_HU and found.cut_above_share > _MOST_CUT_ABOVE:
        return f"{found.cut_above_share:.1%} of the body hold the highest value: everything above it was cut off"
    if found.dense_share > max(_MOST_DENSE, _DENSE_PER_AIR * found.air_share):
        return f"{found.dense_share:.0%} of the voxels lie above 700 HU and few are air: the values are inverted"
    if found.body_share < _LEAST_BODY:
        return f"only {found.body_share:.3%} of the voxels are denser than air"
    if found.light_share > _MOST_GAP_OF_BODY:
        return "most of what is denser than air lies between lung and fat (-700 to -200 HU): the slope is wrong"
    if found.soft_share < _LEAST_SOFT:
        return f"only {found.soft_share:.1%} of what is denser than air is fat or soft tissue (-160 to 140 HU)"
    if abs(found.offset_hu) > LARGEST_OFFSET_HU:
        return f"air and soft tissue lie more than {LARGEST_OFFSET_HU} HU from -1000 and 0 HU"
    return ""


def _notes(found: Figures) -> list[str]:
    notes = []
    if abs(found.offset_hu) >= NOTED_OFFSET_HU:
        notes.append(f"air and soft tissue lie about {found.offset_hu:+d} HU from where they belong; values are kept")
    if found.below_share > _NOTED_BELOW:
        notes.append(f"{found.below_share:.2%} of the voxels lie below -1300 HU and are no padding; they become air")
    if found.values <= COARSE_VALUES:
        notes.append(f"the volume holds only {found.values} different values; HU are coarse")
    return notes


def _check_slices(slices: Sequence[Sample], whole: Figures) -> None:
    """Refuse single slices whose values are unlike the volume's: a rescale lost on the way in some of them."""
    odd = [number for number, sample in enumerate(slices, start=1) if len(sample) and _is_unlike(sample, whole)]
    if odd:
        message = (
            f"{len(odd)} of {len(slices)} slices hold values unlike the others (no air, or far outside CT numbers),"
            f" first slice {odd[0]} of {len(slices)} from the feet"
        )
        raise InputError(Refusal.IMPLAUSIBLE_HU, f"{message}; send the series again")


def _apart(slices: Sequence[Sample], rescales: Sequence[Hashable]) -> Iterator[str]:
    """Note slices that lie apart from those of another rescale: one of the two is wrong."""
    groups: dict[Hashable, list[Sample]] = defaultdict(list)
    for sample, rescale in zip(slices, rescales, strict=False):
        groups[rescale].append(sample)
    if len(groups) < 2:
        return
    joined = [np.concatenate(group) for group in groups.values() if len(group) >= _FEWEST_SLICES]
    offsets = [_offset_hu(sample) for sample in joined if len(sample)]
    if offsets and (apart := max(offsets) - min(offsets)) >= NOTED_OFFSET_HU:
        yield f"slices of different rescale lie about {apart} HU apart: the rescale of some is wrong; values are kept"


def _is_unlike(sample: Sample, whole: Figures) -> bool:
    outside = float((sample > _HIGHEST_HU).mean()) + _below_share(sample)
    no_air = whole.low_share > _SLICE_AIR and not (sample <= _FAT_TOP_HU).any()
    if not (outside > _SLICE_MOST or no_air):
        return False
    return _commonest_share(sample) <= _BLANK_SHARE  # not blank, or nearly: a head's top where air was painted over


def _commonest_share(sample: Sample) -> float:
    return float(np.unique(sample, return_counts=True)[1].max() / len(sample))


def _cut_above_share(body: Sample, highest: float) -> float:
    count = int(np.count_nonzero(body == highest))
    return count / len(body) if count >= _LEAST_CUT_VOXELS else 0.0


def _distinct(sample: Sample, lowest: float, highest: float) -> int:
    """Count the different values; those of most CT are whole numbers, which need not be sorted."""
    if highest - lowest < _SORTED_SPAN_HU:
        whole = sample.astype(np.int64)
        if np.array_equal(whole, sample):
            seen = np.zeros(int(highest - lowest) + 1, np.bool_)
            seen[whole - int(lowest)] = True
            return int(np.count_nonzero(seen))
    return len(np.unique(sample))


def _below_share(sample: Sample) -> float:
    """Measure the part far below air, without the padding value that most of it has (lossy coding blurs it)."""
    below = sample[sample < _LOWEST_HU]
    if not len(below):
        return 0.0
    values, counts = np.unique(below, return_counts=True)
    padding = values[counts.argmax()]
    others = np.abs(values - padding) > _PADDING_WIDTH_HU
    left = counts[others]  # a reformatted series has a second padding value, without blur
    second = left.max(initial=0) if left.max(initial=0) > _SPIKE_SHARE * len(sample) else 0
    return float((left.sum() - second) / len(sample))


def _offset_hu(sample: Sample) -> int:
    """Find the shift at which air, fat and soft tissue of a sample fit best to -1000, -100 and 45 HU; 0 without air."""
    edges = np.arange(-1600.0, 801.0, _STEP_HU)
    inside = _without_border(sample)
    shares = np.histogram(inside, len(edges) - 1, (edges[0], edges[-1]))[0] / len(sample)  # given edges are searched
    centres = edges[:-1] + _STEP_HU / 2
    shifts = np.arange(-400, 401, _STEP_HU)
    air, fat, soft = (
        np.array([np.sum(shares * _bump(centres, middle + float(shift))) for shift in shifts]) for middle in _PLACES_HU
    )
    tissue = fat + soft
    fit = np.where(air >= _LEAST_AIR, np.sqrt(air) + np.sqrt(tissue), 0.0)
    best = int(fit.argmax())
    here = int(np.searchsorted(shifts, 0))
    # Where the air around a body was painted over, its lungs look like shifted air: then tissue has to fit better too.
    painted = len(inside) < len(sample) / 2
    believed = fit[best] > 1.1 * fit[here] and not (painted and tissue[best] < tissue[here])
    return int(shifts[best]) if believed else 0


def _without_border(sample: Sample) -> Sample:
    """Leave out one value that fills far more than its neighbours do, above air: a border painted at 0 HU."""
    counts = np.bincount(np.clip(np.rint(sample) - _AIR_TOP_HU, 0, 2000).astype(np.int64), minlength=2001)[1:2000]
    peak = int(counts.argmax())
    beside = np.delete(counts[max(0, peak - 3) : peak + 4], min(peak, 3)).max(initial=0)
    if counts[peak] < max(_SPIKE_SHARE * len(sample), _SPIKE_FACTOR * beside):
        return sample
    return np.asarray(sample[np.rint(sample) != peak + 1 + _AIR_TOP_HU])


def _bump(centres: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((centres - middle) / _PLACE_WIDTH_HU) ** 2))
