"""Whether rows are as long as Columns says.

Rows and Columns that are swapped, or wrong with the right product, leave as many pixels as before, so no length tells
it: every row of the image begins at a wrong place. In a right image the pixel one row below is the most alike of all
pixels that lie a possible row length further on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import InputError, Refusal

Planes = NDArray[np.float32]

SLICES_LOOKED_AT = 8
MORE_ALIKE = 0.95
"""Right images of real CT and phantoms reach 1.24, noise reaches 1.00; wrong ones lie at 0.86 or below
(docs/geometry.md)."""

_SEEN_HU = (-1000.0, 300.0)
_SHORTEST_ROW, _FEWEST_ROWS = 16, 8
_STRIDE = 7
"""Every which pixel is compared; it divides no usual row length, so that all columns are met."""


def check_row_length(planes: Planes) -> None:
    """Refuse images whose rows have another length than their Columns.

    Parameters
    ----------
    planes : ndarray, shape (n, rows, columns), float32
        A few whole slices in HU.

    Raises
    ------
    InputError
        UNREADABLE, with the figures that say so.
    """
    rows, columns = planes.shape[1:]
    pixels = [np.clip(plane, *_SEEN_HU).ravel() for plane in planes]
    below = _difference_hu(pixels, columns)
    others = {length: _difference_hu(pixels, length) for length in _lengths(rows * columns) if length != columns}
    if not others or not below:
        return
    length = min(others, key=lambda other: others[other])
    if others[length] >= MORE_ALIKE * below:
        return
    message = (
        f"Rows and Columns are swapped or wrong: pixels one row of {columns} apart differ by {below:.0f} HU on"
        f" average, pixels {length} apart by {others[length]:.0f} HU; export the series again"
    )
    raise InputError(Refusal.UNREADABLE, message)


def _lengths(count: int) -> list[int]:
    """Give the row lengths that so many pixels can have."""
    return [length for length in range(_SHORTEST_ROW, count // _FEWEST_ROWS + 1) if count % length == 0]


def _difference_hu(pixels: Sequence[Planes], distance: int) -> float:
    """Give the mean difference of pixels so far apart in the order in which they are stored."""
    return float(np.mean([np.abs(one[distance::_STRIDE] - one[:-distance:_STRIDE]).mean() for one in pixels]))
