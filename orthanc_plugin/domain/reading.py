"""How a rule has a series read where there is a choice: which phase, and what becomes of missing slices."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Which phase of a series of several (4D, perfusion, arterial and venous) is read."""

    REFUSE = "refuse"
    FIRST = "first"
    LAST = "last"
    LARGEST = "largest"


class MissingSlices(StrEnum):
    """What becomes of a series with gaps of whole slices."""

    REFUSE = "refuse"
    INTERPOLATE = "interpolate"


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What the loader may do beyond vouching for a series as it is; by default nothing."""

    phase: Phase = Phase.REFUSE
    missing_slices: MissingSlices = MissingSlices.REFUSE
