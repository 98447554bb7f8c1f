"""Trace the outlines of masks: closed polygons along pixel edges, one per island, with holes opened to the outside.

An outline runs between pixels, so every pixel centre is at least half a pixel away from it. Any reader that fills the
outline therefore gets the mask back, including single pixels and parts that are one pixel wide, and the area is that of
the mask. Only corners are kept, so no three points lie on one line. Pixels that touch only at a corner belong to
different islands, so no outline crosses itself. A channel without width joins each hole to the outline on its left
(the keyhole technique), or holes have outlines of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Mask

Points = NDArray[np.float64]
_Pairs = NDArray[np.intp]


INSET = 0.05
"""How far separate outlines run inside the pixel edges, in pixels: points then round to the pixels of the mask."""


def separate_outlines(mask: Mask) -> list[Points]:
    """Trace closed polygons just inside the pixels of one slice, with an outline of its own for each hole.

    A reader that rounds points to pixels and fills with the border, and one that fills at pixel centres, both get the
    mask back if they combine outlines by XOR. Outlines of holes run inside the mask as well.

    Parameters
    ----------
    mask : ndarray, shape (rows, columns), bool

    Returns
    -------
    list of ndarray, shape (n, 2), float64
        As for `outlines`.
    """
    padded = np.pad(mask, 1)
    corners, across, down = _paired(padded, [])
    rows, columns = np.divmod(corners, padded.shape[1] - 1)
    right, below = np.sign(columns[across] - columns), np.sign(rows[down] - rows)
    is_convex = padded[rows + (below > 0), columns + (right > 0)]
    inward = np.where(is_convex, INSET, -INSET)
    points = np.column_stack((columns + inward * right, rows + inward * below)) - 0.5
    return [points[loop] for loop in _loops(across, down)]


def outlines(mask: Mask) -> list[Points]:
    """Trace closed polygons around the pixels of one slice.

    Parameters
    ----------
    mask : ndarray, shape (rows, columns), bool

    Returns
    -------
    list of ndarray, shape (n, 2), float64
        Column and row of each corner, n >= 4, in pixels; pixel centres are whole numbers. The last point does not
        repeat the first. Empty for an empty mask.

    Source
    ------
    Keyhole technique: DICOM PS3.3 C.8.8.6.3. Polygons from their corners: along each row and each column, corners
    1 and 2, 3 and 4, and so on are the ends of one edge.
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
    """List the corners of the mask row by row (flat indices), with the partner of each along its row and its column.

    A corner where two pixels touch diagonally is listed twice, and so is each of the points in `ends`.
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
    # If a corner is listed twice, the first entry has the left edge. It also has the upper edge, unless the pixel to
    # the upper right is inside: then the second entry has the right and the upper edge.
    by_column = np.lexsort((second ^ ne.ravel()[corners], rows, columns))
    down = np.empty_like(order)
    down[by_column] = by_column[order ^ 1]
    return corners, order ^ 1, down


def _loops(across: _Pairs, down: _Pairs) -> list[list[int]]:
    """Walk over the corners in closed loops, alternately along the row and along the column."""
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
    """Find the first edge to the left of the first corner of a hole, on the line between two rows of pixels."""
    inside = padded[row, :column] & padded[row + 1, :column]
    met: int = np.flatnonzero(~inside)[-1].item()
    return row * int(padded.shape[1] - 1) + met


def _open(hole: int, end: int, corners: _Pairs, across: _Pairs, down: _Pairs, *, above: bool) -> None:
    """Join a hole to the outline on its left; both sides of the channel replace the edges that they extend.

    above: the pixel to the upper left of the end is inside, so the upper side of the channel continues straight on.
    """
    first, upper = np.searchsorted(corners, [hole, end])
    if upper + 1 < len(corners) and corners[upper + 1] == end and corners[down[upper]] > end:
        upper += 1
    lower, top = across[upper], across[first]
    if above:
        upper, lower = lower, upper
    across[[upper, top]] = top, upper
    across[[lower, first]] = first, lower
