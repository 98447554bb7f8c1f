"""HU as whole numbers: what is the same for equal values is then looked up instead of sorted or searched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WIDEST = 1 << 16
"""Values of a CT in 16 bits."""


def whole_offsets(values: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.int32] | None:
    """Return each value's distance from the lowest, if all are whole numbers of a range that a table can hold.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least one, all finite.
    """
    low, high = float(values.min()), float(values.max())
    if not low.is_integer() or high - low >= _WIDEST or max(-low, high) >= 2**24:
        return None
    whole = values.astype(np.int32)
    return whole - np.int32(low) if np.array_equal(whole, values) else None
