"""Keep the probabilities of a model beside its labels, in bytes, as far as memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.masks import Probability, Segment
from orthanc_plugin.inference.grid import Field, Turn

Shares = NDArray[np.uint8]

MOST_BYTES = 2 * 2**30
"""Of all structures of a model together; 100 structures of a whole body would need 10 GiB."""


def too_many(structures: int, shape: Sequence[int]) -> str:
    """Say why probabilities are not kept; empty if they are."""
    needed = structures * int(np.prod(shape))
    if needed <= MOST_BYTES:
        return ""
    return f"probabilities are not kept: {structures} structures need {needed / 2**30:.1f} GiB, the limit is 2 GiB"


def in_bytes(probability: Field) -> Shares:
    """Round probabilities to bytes, 255 for certain."""
    return np.asarray(np.rint(np.clip(probability, 0, 1) * 255), np.uint8)


def of_segments(shares: Mapping[int, Shares], segments: Sequence[Segment], turn: Turn) -> tuple[Probability, ...]:
    """Give the probabilities of what was found on the volume's grid; shares: by label number, as the network lies."""
    return tuple(
        Probability(segment.key, np.ascontiguousarray(turn.backward(shares[segment.number])))
        for segment in segments
        if segment.number in shares
    )
