"""Outlines of masks: closed polygons along the edges of pixels, one for each island, holes opened to the outside.

An outline runs between pixels, so every pixel centre lies half a pixel or more away from it: whatever reader fills it
gets the mask back, one pixel wide parts and single pixels included, and its area is that of the mask. Only corners are
kept, hence no three points lie on one line. Pixels that touch at a corner only are islands of their own, so no outline
crosses itself. A hole is joined to what lies left of it by a channel without width (the keyhole technique).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask

Points = NDArray[np.float64]
_Pairs = NDArray[np.intp]


def outlines(mask: Mask) -> list[Points]:
    """Closed polygons round the pixels of one slice.

    Parameters
    ----------
    mask : ndarray, shape (rows, columns), bool

    Returns
    -------
    list of ndarray, shape (n, 2), float64
        Column and row of each corner, n >= 4, in pixels: pixel centres are whole numbers. The last point is not the
        first one again. Empty for an empty mask.

    Source
    ------
    Keyhole technique: DICOM PS3.3 C.8.8.6.3. Polygons from their corners: neighbours along a row, and along a column,
    are the ends of one edge by turns.
    """
    padded = np.pad(mask, 1)
    width = padded.shape[1] - 1
    corners, across, down = _paired(padded, [])
    loops = _loops(across, down)
    holes = [hole for hole in (int(corners[loop[0]]) for loop in loops) if not padded[1:, 1:][divmod(hole, width)]]
    if holes:
        ends = [_channel_end(padded, *divmod(hole, width)) for hole in holes]
        corners, across, down = _paired(padded, ends)
        for hole, end in zip(holes, ends, strict=True):
            _open(hole, end, corners, across, down, above=bool(padded[divmod(end, width)]))
        loops = _loops(across, down)
    rows, columns = np.divmod(corners, width)
    points = np.column_stack((columns, rows)) - 0.5
    return [points[loop] for loop in loops]


def _paired(padded: Mask, ends: list[int]) -> tuple[_Pairs, _Pairs, _Pairs]:
    """Corners of the mask row by row (flat indices), and for each its partner along the row and along the column.

    A corner where two pixels touch diagonally stands twice. `ends`: points of edges that shall stand twice as well.
    """
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    times = (nw ^ ne ^ sw ^ se).astype(np.uint8)
    times[(nw == se) & (ne == sw) & (nw != ne)] = 2
    for end in ends:
        if not times.flat[end]:
            times.flat[end] = 2
    places = np.flatnonzero(times)
    corners = np.repeat(places, times.ravel()[places])
    order = np.arange(len(corners))
    second = np.zeros(len(corners), bool)
    second[1:] = corners[1:] == corners[:-1]
    rows, columns = np.divmod(corners, times.shape[1])
    # Of a corner that stands twice the first has the edge to the left; it has the upper edge too, but where the pixel
    # to the upper right is inside: that one's edges then are the right and the upper one.
    by_column = np.lexsort((second ^ ne.ravel()[corners], rows, columns))
    down = np.empty_like(order)
    down[by_column] = by_column[order ^ 1]
    return corners, order ^ 1, down


def _loops(across: _Pairs, down: _Pairs) -> list[list[int]]:
    """Closed walks over the corners, each from its first corner, along the row and along the column by turns."""
    return list(_walks(across.tolist(), down.tolist()))


def _walks(across: list[int], down: list[int]) -> Iterator[list[int]]:
    seen = bytearray(len(across))
    for start in range(len(across)):
        walk: list[int] = []
        corner = start
        while not seen[corner]:
            other = across[corner]
            seen[corner] = seen[other] = True
            walk += (corner, other)
            corner = down[other]
        if walk:
            yield walk


def _channel_end(padded: Mask, row: int, column: int) -> int:
    """Where a walk to the left from the first corner of a hole, between two rows of pixels, first meets an edge."""
    inside = padded[row, :column] & padded[row + 1, :column]
    met: int = np.flatnonzero(~inside)[-1].item()
    return row * int(padded.shape[1] - 1) + met


def _open(hole: int, end: int, corners: _Pairs, across: _Pairs, down: _Pairs, *, above: bool) -> None:
    """Join a hole to the outline left of it: both sides of the channel take the place of edges that they prolong.

    above: the pixel to the upper left of the end is inside, so that the upper side of the channel runs straight on.
    """
    first, upper = np.searchsorted(corners, [hole, end])
    if upper + 1 < len(corners) and corners[upper + 1] == end and corners[down[upper]] > end:
        upper += 1
    lower, top = across[upper], across[first]
    if above:
        upper, lower = lower, upper
    across[[upper, top]] = top, upper
    across[[lower, first]] = first, lower
