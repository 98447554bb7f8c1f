"""How sharp a reconstruction kernel is, by the spellings of the large vendors.

ConvolutionKernel (0018,1210) is a free label (PS3.3 Table C.8-3), so each vendor writes its own. The table says soft or
sharp only where the spelling tells it. Every other kernel is `UNKNOWN`, which stands between the two. Kernels that
vendors place between soft and sharp, such as GE's DETAIL or Siemens' B46, are `UNKNOWN` too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum


class Sharpness(StrEnum):
    """Kinds of reconstruction kernel, from the first choice for masks and numbers to the last."""

    SOFT = "soft"
    UNKNOWN = "unknown"
    SHARP = "sharp"


_SIEMENS = r"(?:[BHQU][A-Z]?|[CDIJ])"
KERNELS = (
    ("Siemens", Sharpness.SOFT, rf"{_SIEMENS}[1-3][0-9][A-Z]?|{_SIEMENS}4[0-5][A-Z]?"),
    ("Siemens", Sharpness.SHARP, rf"{_SIEMENS}[5-9][0-9][A-Z]?"),
    ("GE", Sharpness.SOFT, r"(?:HD ?)?(?:STANDARD|STND|SOFT|CHEST|CHST)\W*"),
    ("GE", Sharpness.SHARP, r"(?:HD ?)?(?:LUNG|BONE|BONE ?PLUS|EDGE|ULTRA|ULTRA ?BONE)\W*"),
    ("Philips", Sharpness.SOFT, r"X?C?[AB]|U[AB]"),
    ("Philips", Sharpness.SHARP, r"[DEFL]|X?CD|Y[A-E]"),
    ("Canon, Toshiba", Sharpness.SOFT, r"FC(?:0[1-4]|0[7-8]|1[0-4]|1[7-8])(?:-H)?"),
    ("Canon, Toshiba", Sharpness.SHARP, r"FC[358][0-9](?:-H)?"),
)
"""Vendor, kind and spelling (a regular expression for the whole value, upper case) of the known kernels.

Source: Siemens, Somatom Sensation operating instructions, "Body kernels" (10 to 41 body tissue, 50 to 80 sharp), and
the naming of newer kernels (Br40, Bl57), whose number grows with sharpness. For GE, Philips and Canon (FC 3x, 8x bone;
5x lung) the common use of these filters; no vendor publishes a table of them.
"""

_PATTERNS = tuple((kind, re.compile(spelling)) for _, kind, spelling in KERNELS)
_ORDER = tuple(Sharpness)


def sharpness_of(kernels: Sequence[str]) -> Sharpness:
    """Return how sharp the kernels of one series are; the sharpest counts if there are several.

    Parameters
    ----------
    kernels : sequence of str
        The different values of ConvolutionKernel. A backslash separates the parts of one value (Siemens writes the
        strength of the iterative reconstruction as a second part); the first part that is known counts.
    """
    return max(map(_sharpness, kernels), key=_ORDER.index, default=Sharpness.UNKNOWN)


def _sharpness(kernel: str) -> Sharpness:
    parts = (part.strip().upper() for part in kernel.split("\\"))
    found = (kind for part in parts for kind, pattern in _PATTERNS if pattern.fullmatch(part))
    return next(found, Sharpness.UNKNOWN)
