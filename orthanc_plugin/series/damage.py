"""Whether single slices are damaged although their pixels could be decoded.

Bytes that were lost, zeroed or overwritten in the middle of a frame leave an image. From the damage on its rows lie
elsewhere or hold one value, while the slices on both sides agree with each other. Three figures tell it:

- empty rows: rows of one value across the whole image where both neighbours show the body;
- a seam: two rows that differ far more than the rows beside them and those of the neighbours, and below it
- strange pixels: pixels of the body that differ from both neighbours by more than 250 HU, more than these from each
  other.

Each alone happens in real CT (a table top, a cough, metal); docs/geometry.md has the figures of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import InputError, Refusal

Plane = NDArray[np.float32]
Counts = NDArray[np.int64]
Shares = NDArray[np.float64]

STRANGE_HU = 250.0
NOTED_SEAM, NOTED_STRANGE = 2.4, 0.25
REFUSED_SEAM, REFUSED_STRANGE = 3.0, 0.5
WHOLLY_STRANGE = 0.5
"""Of a quarter of the slice."""

NOTED_EMPTY_ROWS, REFUSED_EMPTY_ROWS = 1, 3

_COLUMNS = 64
_SEEN_HU, _BODY_HU = (-1000.0, 600.0), -500.0
_LEAST_BODY, _LEAST_EMPTY = 0.1, 0.25
_BELOW_SEAM_ROWS = (4, 16)
_LEAST_DIFFERENCE_HU = 8.0
_FEWEST_SLICES = 3


@dataclass(frozen=True, slots=True)
class Oddity:
    """What is odd about one slice.

    empty_rows: rows of one value where both neighbours show the body.
    seam: the largest jump from one row to the next with strange pixels below it, in the largest of those around it.
    strange: share of strange pixels of the body below that seam.
    row: the last row above the seam.
    wholly: share of strange pixels of the body in the quarter of the slice that has most.
    is_end: whether it is the first or the last slice, of which no neighbours on both sides can speak.
    """

    empty_rows: int
    seam: float
    strange: float
    row: int
    wholly: float
    is_end: bool

    @property
    def is_damage(self) -> bool:
        """Whether no CT can look like this."""
        is_empty = self.empty_rows >= REFUSED_EMPTY_ROWS and not self.is_end  # there a body may begin
        return is_empty or (self.seam >= REFUSED_SEAM and self.strange >= REFUSED_STRANGE)

    @property
    def is_odd(self) -> bool:
        """Whether no real CT that was looked at looks like this."""
        if self.is_damage or self.is_end:
            return self.is_damage
        return self.empty_rows >= NOTED_EMPTY_ROWS or self._has_seam or self.wholly >= WHOLLY_STRANGE

    @property
    def _has_seam(self) -> bool:
        return self.seam >= NOTED_SEAM and self.strange >= NOTED_STRANGE

    def __str__(self) -> str:
        """Give the figures in words."""
        if self.empty_rows >= NOTED_EMPTY_ROWS:
            return f"{self.empty_rows} row(s) hold one value where both neighbours show the body"
        if self._has_seam:
            return (
                f"at row {self.row + 1} it jumps {self.seam:.1f} times as far as anywhere around, and below that"
                f" {self.strange:.0%} of the body are unlike both neighbours"
            )
        return f"{self.wholly:.0%} of the body in a quarter of it are unlike both neighbours"


def check_slices_whole(planes: Iterable[Plane]) -> tuple[str, ...]:
    """Note slices that may be damaged, or refuse a series with a slice that is.

    Parameters
    ----------
    planes : iterable of ndarray, shape (rows, columns), float32
        All slices in HU, in their order, each at its place in the plane.

    Raises
    ------
    InputError
        UNREADABLE, with the number of the slice and the figures that say so.
    """
    found = list(oddities(planes))
    for number, oddity in enumerate(found, start=1):
        if oddity.is_damage:
            message = f"slice {number} of {len(found)} from the feet is damaged: {oddity}; send the series again"
            raise InputError(Refusal.UNREADABLE, message)
    odd = [(number, oddity) for number, oddity in enumerate(found, start=1) if oddity.is_odd]
    return tuple(f"slice {number} of {len(found)} from the feet may be damaged: {oddity}" for number, oddity in odd)


def oddities(planes: Iterable[Plane]) -> Iterator[Oddity]:
    """Measure every slice; none of fewer than three."""
    seen = [_columns(plane) for plane in planes]
    if len(seen) < _FEWEST_SLICES:
        return
    jumps = [np.abs(np.diff(plane, axis=0)).mean(axis=1) for plane in seen]
    last = len(seen) - 1
    for index, plane in enumerate(seen):
        one, other = {0: (1, 2), last: (last - 1, last - 2)}.get(index, (index - 1, index + 1))
        seams = _seams(jumps[index], jumps[one], jumps[other])
        yield _oddity(plane, seen[one], seen[other], seams, is_end=index in (0, last))


def _columns(plane: Plane) -> Plane:
    """Take some columns, all rows: damage runs along the rows."""
    step = max(1, plane.shape[1] // _COLUMNS)
    return np.clip(plane[:, ::step], *_SEEN_HU)


def _oddity(plane: Plane, one: Plane, other: Plane, seams: Shares, *, is_end: bool) -> Oddity:
    apart = np.minimum(np.abs(plane - one), np.abs(plane - other)) - np.abs(one - other)
    shared = (one > _BODY_HU) & (other > _BODY_HU)
    body = shared | (plane > _BODY_HU)
    strange = body & (apart > STRANGE_HU)
    body_rows, strange_rows = (np.count_nonzero(mask, axis=1) for mask in (body, strange))
    is_empty = (
        _of_one_value(plane)
        & ~(_of_one_value(one) | _of_one_value(other))
        & (np.count_nonzero(shared, axis=1) >= _LEAST_EMPTY * plane.shape[1])
    )
    below = np.maximum.reduce([_shares(strange_rows, body_rows, rows, plane.shape[1])[1:] for rows in _BELOW_SEAM_ROWS])
    row = int(np.minimum(seams / NOTED_SEAM, below / NOTED_STRANGE).argmax())
    wholly = _shares(strange_rows, body_rows, max(1, len(plane) // 4), plane.shape[1]).max()
    return Oddity(int(is_empty.sum()), float(seams[row]), float(below[row]), row, float(wholly), is_end)


def _of_one_value(plane: Plane) -> NDArray[np.bool_]:
    return np.asarray((plane == plane[:, :1]).all(axis=1))


def _seams(jumps: Shares, *neighbours: Shares) -> Shares:
    """Compare each jump from row to row with those two rows away, and with those of the neighbours at that place."""
    around = [_shifted(jumps, 2), _shifted(jumps, -2), np.full_like(jumps, _LEAST_DIFFERENCE_HU)]
    around += [_shifted(other, rows) for other in neighbours for rows in (-1, 0, 1)]
    return np.asarray(jumps / np.maximum.reduce(around))


def _shifted(values: Shares, rows: int) -> Shares:
    return values[np.clip(np.arange(len(values)) + rows, 0, len(values) - 1)]


def _shares(part: Counts, whole: Counts, rows: int, columns: int) -> Shares:
    """Give the share in so many rows from each row on; 0 where these show little body."""
    ends = np.minimum(np.arange(len(part)) + rows, len(part))
    counts, of = (np.concatenate([[0], np.cumsum(values)]) for values in (part, whole))
    numbers, totals = counts[ends] - counts[:-1], of[ends] - of[:-1]
    is_body = totals >= _LEAST_BODY * rows * columns
    return np.where(is_body, numbers / np.maximum(totals, 1), 0.0)
