"""Run the sliding window and accumulate its results in slabs one patch deep.

Tiles run upward through the volume. Slices that no later tile touches are yielded and released, so memory holds one
slab of class values, never a volume. Mirrored copies and folds are summed tile by tile. v1 averages softmax (for
regions sigmoid), v2 averages logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from orthanc_plugin.catalog.nnunet import Configuration, Framework
from orthanc_plugin.correlation import CarryingPool
from orthanc_plugin.inference.grid import Field
from orthanc_plugin.inference.nnunet.members import Decided, Members
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.tiles import Tile, axis_tiles, mirrorings, padding, slice_blocks

Values = NDArray[np.floating[Any]]

_FLOAT32_BYTES = 2 * 2**30
SLICES_AT_ONCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Finished slices. values: (heads, slices, y, x), valid until the next slab is asked for; start: first slice."""

    start: int
    values: Values


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """Rows of tiles along z, and the tiles of each row."""

    rows: tuple[Tile, ...]
    columns: tuple[tuple[Tile, Tile], ...]

    @property
    def depth(self) -> int:
        return max(len(row.share) for row in self.rows)


def predict(
    data: Field,
    configuration: Configuration,
    networks: Sequence[Network],
    *,
    regions: bool = False,
    threads: int = 1,
    slices_at_once: int = SLICES_AT_ONCE,
    members: Members | None = None,
) -> Iterator[Slab]:
    """Run a configuration over a preprocessed volume.

    Parameters
    ----------
    data : (C, z, y, x) float32
        Network axes, working grid, normalised.
    configuration : Configuration
        Patch, step, mirroring and framework.
    networks : sequence of Network
        One for each fold.
    regions : bool
        Whether heads are independent masks; v1 then uses the sigmoid instead of the softmax.
    threads : int
        Threads for the work outside the networks.
    slices_at_once : int
        Batch of a planar network.
    members : Members, optional
        Measures the agreement of the passes.

    Yields
    ------
    Slab
        Upward and without gaps: softmax or sigmoid (v1), logits (v2). The type is float32, or float16 if a slab would
        take more than 2 GiB (v2's own predictor always uses float16). As shares are known in advance, float16 only
        rounds the values (relative 5e-4), without the original's loss at voxels of small total weight.

    Source
    ------
    nnU-Net v1 `_internal_predict_3D_3Dconv_tiled`, `_internal_predict_3D_2Dconv_tiled`; v2
    `predict_sliding_window_return_logits`.
    """
    patch = (1, *configuration.patch_size) if configuration.planar else configuration.patch_size
    pads = [padding(size, length) for size, length in zip(data.shape[1:], patch, strict=True)]
    if any(after for _, after in pads):
        data = np.pad(data, [(0, 0), *pads])
    inner = [slice(before, size - after) for (before, after), size in zip(pads, data.shape[1:], strict=True)]
    window = _window(data.shape[1:], patch, configuration, slices_at_once)
    with CarryingPool(threads) as pool:
        for slab in _slabs(data, window, _Passes(configuration, networks, regions, pool, members), pool):
            first, last = max(inner[0].start, slab.start), min(inner[0].stop, slab.start + slab.values.shape[1])
            if first < last:
                values = slab.values[:, first - slab.start : last - slab.start, inner[1], inner[2]]
                yield Slab(first - inner[0].start, values)


def _window(
    shape: tuple[int, ...], patch: tuple[int, ...], configuration: Configuration, slices_at_once: int
) -> _Window:
    z, y, x = (axis_tiles(size, length, configuration.tile_step) for size, length in zip(shape, patch, strict=True))
    rows = slice_blocks(shape[0], slices_at_once) if configuration.planar else z
    return _Window(rows, tuple(product(y, x)))


def _slabs(data: Field, window: _Window, passes: _Passes, pool: CarryingPool) -> Iterator[Slab]:
    shape = (passes.heads, window.depth, *data.shape[2:])
    total = np.zeros(shape, slab_type(shape))
    for row, following in zip(window.rows, (*window.rows[1:], None), strict=True):
        for y, x in window.columns:
            share: Field = row.share[:, None, None] * y.share[:, None] * x.share
            share /= passes.count
            place = np.s_[:, row.span, y.span, x.span]
            # Do not name the values: the name would hold them while the next tile runs.
            _add(total[:, : len(row.share), y.span, x.span], passes.run(data[place], share), share, pool)
        done = (following.start if following else row.stop) - row.start
        yield Slab(row.start, total[:, :done])
        _move_up(total, done, pool)


def slab_type(shape: Sequence[int]) -> type[np.float32 | np.float16]:
    """Return the type of the values of a slab (heads, slices, y, x)."""
    return np.float32 if 4 * np.prod(shape, dtype=np.int64) <= _FLOAT32_BYTES else np.float16


def _add(total: Values, values: Field, share: Field, pool: CarryingPool) -> None:
    """Add `values * share` to `total`, head by head; overwrites `values`."""

    def add(head: int) -> None:
        np.multiply(values[head], share, out=values[head])
        np.add(total[head], values[head], out=total[head], casting="same_kind")

    list(pool.map(add, range(len(total))))


def _move_up(total: Values, done: int, pool: CarryingPool) -> None:
    """Drop the first `done` slices and set as many at the end to 0."""

    def move(head: Values) -> None:
        kept = len(head) - done
        head[:kept] = head[done:].copy()
        head[kept:] = 0

    list(pool.map(move, total))


class _Passes:
    """All passes over one tile: folds times mirrored copies."""

    def __init__(
        self,
        configuration: Configuration,
        networks: Sequence[Network],
        regions: bool,
        pool: CarryingPool,
        members: Members | None,
    ) -> None:
        self.heads, self._members = configuration.heads, members
        self._networks, self._pool = networks, pool
        self._planar = configuration.planar
        self._mirrorings = mirrorings(tuple(axis + 1 + self._planar for axis in configuration.mirror_axes))
        self._softmax = configuration.framework is Framework.V1 and not regions
        self._sigmoid = configuration.framework is Framework.V1 and regions
        self.count = len(networks) * len(self._mirrorings)
        self._exchanged = list(configuration.mirrored_heads)

    def run(self, tile: Field, share: Field) -> Field:
        """Sum all passes, (heads, z, y, x); the caller may overwrite the result. `share`: the tile's weights."""
        passes = (self._pass(network, tile, axes) for network in self._networks for axes in self._mirrorings)
        if self._members is None:
            return reduce(_sum, passes)
        decided: list[Decided] = []
        total = reduce(_sum, _noting(passes, self._members, decided))
        self._members.add(decided, total / np.float32(self.count), share)
        return total

    def _pass(self, network: Network, tile: Field, axes: tuple[int, ...]) -> Field:
        image = np.flip(tile, axes) if axes else tile
        values = self._run(network, image)
        if self._softmax or self._sigmoid:
            # Slice by slice, so that a thread's data stays in its cache.
            list(self._pool.map(_softmax if self._softmax else _sigmoid, values.swapaxes(0, 1)))
        values = np.flip(values, axes) if axes else values
        # Heads of a mirrored patient: the left organ is the right one.
        return values[self._exchanged] if self._exchanged and values.ndim - 1 in axes else values

    def _run(self, network: Network, image: Field) -> Field:
        """Run one tile; the batch of a planar network is its slices."""
        values = network.run(image.swapaxes(0, 1) if self._planar else image[None])
        return np.asarray(values.swapaxes(0, 1) if self._planar else values[0])


def passes_of(configuration: Configuration) -> int:
    """Count the passes over a tile: folds times mirrored copies."""
    return len(configuration.graphs) * len(mirrorings(configuration.mirror_axes))


def _noting(passes: Iterator[Field], members: Members, decided: list[Decided]) -> Iterator[Field]:
    """Note what each pass decides, before the sum overwrites it."""
    for values in passes:
        decided.append(members.decide(values))
        yield values


def _sum(total: Field, values: Field) -> Field:
    total += values
    return total


def _softmax(values: Field) -> None:
    """Compute the softmax over the first axis, in place."""
    values -= values.max(axis=0)
    np.exp(values, out=values)
    values /= values.sum(axis=0)


def _sigmoid(values: Field) -> None:
    expit(values, out=values)
