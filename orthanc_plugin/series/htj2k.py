"""Decode HTJ2K frames, and hear of frames that could not be decoded to their end.

imagecodecs returns an image of zeros, wholly or from a row on, where its library OpenJPH fails. Only
`sys.unraisablehook` hears of that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_DECODER = "imagecodecs._htj2k"


class _Ear:
    """Hears of errors of the decoder in its own thread, and passes all others on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard = threading.local()
        self._others: Callable[[sys.UnraisableHookArgs], object] = sys.__unraisablehook__

    def listen(self) -> None:
        """Stand before whatever hook there is, and forget what was heard in this thread."""
        with self._lock:
            if sys.unraisablehook != self.hear:
                self._others, sys.unraisablehook = sys.unraisablehook, self.hear
        self._heard.failed = False

    def hear(self, told: sys.UnraisableHookArgs) -> None:
        """Take an error that Python could not raise."""
        if isinstance(told.object, str) and told.object.startswith(_DECODER):
            self._heard.failed = True
        else:
            self._others(told)

    @property
    def has_failed(self) -> bool:
        """Whether the decoder has failed in this thread."""
        return bool(self._heard.failed)


_ear = _Ear()


def htj2k_decode(frame: bytes) -> NDArray[np.integer]:
    """Decode one frame.

    Raises
    ------
    ValueError
        It could not be decoded to its end.
    """
    _ear.listen()
    pixels = np.asarray(imagecodecs.htj2k_decode(frame))
    if _ear.has_failed:
        raise ValueError("the compressed frame is damaged")
    return pixels
