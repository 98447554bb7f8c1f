"""Quality checks of masks and their results. A rule may keep a SEG out of the archive that fails one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orthanc_plugin.codes import Code


class Check(StrEnum):
    """What is asked of a mask."""

    COMPLETE = "complete"
    """The organ touches neither the first nor the last slice that was searched."""
    ONE_PIECE = "one-piece"
    """It has no second component of any size that counts."""
    SIDE = "side"
    """Left lies on the left of its right partner."""
    VOLUME = "volume"
    """Its volume lies in the range of adults."""
    INSIDE_BODY = "inside-body"
    """Lungs lie inside the body."""
    BETWEEN_LUNGS = "between-lungs"
    """The heart lies between the lungs."""
    AGREEMENT = "agreement"
    """Another model finds the same organ in the same place."""
    PARTNER = "partner"
    """The lung of the other side was found, too."""
    GAS = "gas"
    """No part of a lung is gas without vessels."""
    CONTRAST = "contrast"
    """Bone holds no contrast medium."""
    IN_IMAGE = "in-image"
    """The edge of the image plane, or of the reconstruction circle, does not cut the organ."""
    CLOSED = "closed"
    """No lung goes on as air around the body in the next slice."""
    UPRIGHT = "upright"
    """The airway lies higher than the lungs."""
    MEMBERS = "members"
    """The members of the model (folds, mirrored copies) find the same."""
    BORDER = "border"
    """The model is sure of the border."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check of one segment; a check that does not apply to a segment has no result.

    model: name of the model that found the segment.
    segment_number: number of the segment in the stored SEG.
    key: key of the structure in the model's card.
    value: what was measured: components, mL, Dice, part inside, ...
    unit: UCUM unit of the value.
    detail: one sentence for people, without patient data.
    """

    check: Check
    model: str
    segment_number: int
    key: str
    passed: bool
    value: float
    unit: Code
    detail: str
