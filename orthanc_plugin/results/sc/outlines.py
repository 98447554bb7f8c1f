"""Grey values of a window, and the outlines of structures on a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Grey = NDArray[np.uint8]

_BRIGHTEST = 200  # below white: pale outlines stay visible on bone, and on all of a lung window


def windowed(hounsfield: NDArray[np.float32] | NDArray[np.int16], level: float, width: float) -> Grey:
    """Give the grey values of HU in a window."""
    return np.asarray(np.clip((hounsfield - (level - width / 2)) * (_BRIGHTEST / width), 0, _BRIGHTEST), np.uint8)


def outline(
    image: Rgb, labels: NDArray[np.uint8], colours: NDArray[np.uint8], closed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Colour the outermost pixels of each structure; if it surrounds others, only those at its outside.

    Parameters
    ----------
    image : ndarray, shape (rows, columns, 3), uint8
        Is changed.
    labels : ndarray, shape (rows, columns), uint8
    colours : ndarray, shape (256, 3), uint8
        By label.
    closed : ndarray, shape (256,), bool
        By label; False if the structure surrounds others.

    Returns
    -------
    ndarray, shape (rows, columns), bool
        The pixels that were coloured.
    """
    padded = np.pad(labels, 1)
    edge = np.zeros(labels.shape, bool)
    for beside in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        edge |= (beside != labels) & ((beside == 0) | closed[labels])
    edge &= labels > 0
    image[edge] = colours[labels[edge]]
    return edge
