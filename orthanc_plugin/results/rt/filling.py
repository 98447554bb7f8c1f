"""Fill contours: which pixels of a slice have their centre inside.

All contours of a slice count together by the even-odd rule. A contour inside another is therefore a hole, and the
channel of a keyhole, which is passed twice, encloses nothing.

Some software traces a mask from centre to centre of its border pixels (OpenCV, rt-utils). Pixels on such contours are
inside, or the mask would lose a part of its border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.results.rt.contours import Points

_ON_CENTRE = 0.01
"""How far, in pixels, a corner may lie from the centre that it was traced from."""


def are_traced(contours: Sequence[Points], shape: tuple[int, int]) -> bool:
    """Tell whether all corners of contours are centres of pixels of the slice, as those of a traced mask are."""
    last = np.array(shape[::-1]) - 1
    return all(np.abs(points - np.rint(points).clip(0, last)).max() <= _ON_CENTRE for points in contours)


def with_border(inside: Mask, contours: Sequence[Points]) -> Mask:
    """Add to a filled mask the pixels on its contours, which were traced from centre to centre."""
    found = inside.copy()
    for points in contours:
        corners = np.rint(points)[:, ::-1]
        edges = np.roll(corners, -1, axis=0) - corners
        steps = np.abs(edges).max(axis=1).astype(np.intp).clip(1)
        edge = np.repeat(np.arange(len(corners)), steps)
        step = np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)
        pixels = np.rint(corners[edge] + edges[edge] * (step / steps[edge])[:, None]).astype(np.intp)
        found[tuple(pixels.T)] = True
    return found


def filled(contours: Sequence[Points], shape: tuple[int, int]) -> Mask:
    """Fill closed polygons by the even-odd rule.

    Parameters
    ----------
    contours : sequence of ndarray, shape (n, 2)
        Column and row of each corner, in pixels; pixel centres are whole numbers. The last joins the first.
    shape : (rows, columns)
        Of the slice; what lies beyond it is cut off.

    Returns
    -------
    ndarray, shape (rows, columns), bool
        A centre on a left or an upper edge is inside, one on a right or a lower edge is not: shapes that share an edge
        share no pixel.
    """
    rows, columns = shape
    crossings = np.zeros((rows, columns + 1), np.int64)
    for points in contours:
        (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
        first, last = (np.ceil(edge).clip(0, rows).astype(np.intp) for edge in (np.minimum(y0, y1), np.maximum(y0, y1)))
        count = last - first  # rows whose centre an edge crosses: its lower end belongs to the next edge
        edge = np.repeat(np.arange(len(points)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        x = x0[edge] + (row - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
        np.add.at(crossings, (row, np.ceil(x).clip(0, columns).astype(np.intp)), 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1)
