"""What a series is worth as input: the checks that are asked of it, their figures, and what a rule does about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orthanc_plugin.codes import Code


class InputCheck(StrEnum):
    """What is asked of a series. The value is a stable code: job records, reports and rules use it."""

    NOISE = "noise"
    """Standard deviation of uniform soft tissue."""
    AIR_NOISE = "air-noise"
    """Standard deviation of the air around the body; a figure only."""
    SLICE_THICKNESS = "slice-thickness"
    """SliceThickness beside the distance of the slices: slices overlap, touch or leave gaps."""
    TRUNCATED = "truncated"
    """The body reaches the edge of the reconstructed field."""
    METAL = "metal"
    """Slices that hold metal."""
    REPEATED = "repeated"
    """Slices whose pixels are those of another slice."""
    JUMPS = "jumps"
    """Neighbouring slices that differ far more than those around them."""
    PADDING = "padding"
    """Voxels that hold padding or values below air; a figure only."""
    CONTRAST = "contrast"
    """Blood pool HU against ContrastBolusAgent."""
    BODY_PART = "body-part"
    """Where the scan lies against BodyPartExamined."""


REFUSABLE = (InputCheck.NOISE, InputCheck.TRUNCATED, InputCheck.METAL, InputCheck.REPEATED, InputCheck.JUMPS)
"""What a rule may refuse a series for: what is known from its pixels alone, before any model runs."""


@dataclass(frozen=True, slots=True)
class InputFigure:
    """One check of one series.

    passed: None where nothing is asked of the figure, or the answer is unknown.
    value: what was measured, with its UCUM unit; None where it cannot be measured.
    detail: one sentence for people, without patient data.
    """

    check: InputCheck
    passed: bool | None
    value: float | None
    unit: Code
    detail: str

    @property
    def note(self) -> str:
        """The figure as a line of a job's record."""
        verdict = {True: "", False: " FAILED", None: ""}[self.passed]
        return f"input {self.check}{verdict}: {self.detail}"


@dataclass(frozen=True, slots=True)
class InputLimits:
    """When a check of the input fails, and which failures refuse the series.

    max_noise_hu: of uniform soft tissue.
    max_truncated: part of the body's outline that may lie on the edge of the field.
    max_metal: part of the slices that may hold metal.
    refuse: checks whose failure refuses the series; the others are noted.
    """

    max_noise_hu: float = 50.0
    max_truncated: float = 0.02
    max_metal: float = 0.02
    refuse: tuple[InputCheck, ...] = ()
