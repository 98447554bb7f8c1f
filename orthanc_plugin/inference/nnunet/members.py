"""Measure how far the passes of a model agree, tile by tile, while the sliding window runs.

Members are folds and mirrored copies. No member's values are kept: each tile's decisions are compared with the joint
ones while the tile is at hand, weighted by the tile's share in each voxel, so overlapping tiles count once. So the
figures belong to the working grid, before the way back and before postprocessing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import entr, expit, softmax

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.inference.grid import Field

Decided = NDArray[Any]
"""Of one member: number of the highest head, (z, y, x) uint8; with regions, (heads, z, y, x) bool."""


class Members:
    """The agreement of the members of one configuration; `add` every tile, then read `dice` and `entropy`.

    Parameters
    ----------
    heads : int
        Output channels of the network.
    count : int
        Number of members.
    regions : bool
        Whether heads are independent masks.
    logits : bool
        Whether values are logits, and not probabilities.
    """

    def __init__(self, heads: int, count: int, *, regions: bool, logits: bool) -> None:
        self.count = count
        self._regions, self._logits = regions, logits
        self._both = np.zeros((count, heads))
        self._sizes = np.zeros((count, heads))
        self._doubt, self._border = np.zeros(heads), np.zeros(heads)

    def decide(self, values: Field) -> Decided:
        """Decide a tile of one member, or of the mean: (heads, z, y, x)."""
        if self._regions:
            return np.asarray(values > (0.0 if self._logits else 0.5))
        return np.asarray(values.argmax(axis=0).astype(np.uint8))

    def add(self, members: Sequence[Decided], mean: Field, share: Field) -> None:
        """Count a tile.

        Parameters
        ----------
        members : sequence of array
            What each member decides.
        mean : (heads, z, y, x) float32
            Mean of the members' values.
        share : (z, y, x) float32
            Weight of this tile in each voxel.
        """
        joint = self.decide(mean)
        for head, ours in self._masks(joint):
            size = float(share[ours].sum())
            if size:
                self._add_border(head, ours, mean, share)
            for number, member in enumerate(members):
                theirs = self._mask(member, head)
                self._both[number, head] += share[ours & theirs].sum()
                self._sizes[number, head] += size + share[theirs].sum()

    def take(
        self,
        both: NDArray[np.float64],
        sizes: NDArray[np.float64],
        doubt: NDArray[np.float64],
        border: NDArray[np.float64],
    ) -> None:
        """Take the sums of all tiles: (count, heads) and (heads,)."""
        self._both, self._sizes, self._doubt, self._border = both, sizes, doubt, border

    def dice(self, head: int) -> float | None:
        """Return the mean over the members of the Dice coefficient with the joint result; None without a voxel."""
        sizes = self._sizes[:, head]
        return float(np.mean(2 * self._both[:, head] / sizes)) if sizes.all() else None

    def entropy(self, head: int) -> float | None:
        """Return the mean entropy, in bits, of the voxels at the border of a structure; None without a border."""
        return float(self._doubt[head] / self._border[head]) if self._border[head] else None

    def _add_border(self, head: int, ours: Mask, mean: Field, share: Field) -> None:
        border = ours & ~ndimage.binary_erosion(ours, border_value=1)
        values, weights = mean[:, border], share[border]
        if self._regions:
            p = expit(values[head]) if self._logits else values[head]
            bits = (entr(p) + entr(1 - p)) / np.log(2)
        else:
            bits = entr(softmax(values, axis=0) if self._logits else values).sum(axis=0) / np.log(2)
        self._doubt[head] += float((bits * weights).sum())
        self._border[head] += float(weights.sum())

    def _masks(self, decided: Decided) -> Iterator[tuple[int, Mask]]:
        for head in range(len(self._doubt)):
            if head or self._regions:  # not the background
                yield head, self._mask(decided, head)

    def _mask(self, decided: Decided, head: int) -> Mask:
        return np.asarray(decided[head] if self._regions else decided == head)
