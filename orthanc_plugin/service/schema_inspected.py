"""The JSON of the API about what would be done with a series (see `schema`)."""

from __future__ import annotations

from orthanc_plugin.domain.input_quality import InputCheck
from orthanc_plugin.jobs.inspection import Step, StepState
from orthanc_plugin.service.shape import Shape, Unit


class InspectedStep(Shape):
    """One step that a series passes on its way. `reason`: the code of a refusal; `detail`: what was found."""

    step: Step
    state: StepState
    reason: str
    detail: str


class InspectedRule(Shape):
    """What one rule says of a series. `reasons`: criteria that it does not meet, without texts of the hospital."""

    rule: str
    matches: bool
    reasons: tuple[str, ...]


class InspectedFigure(Shape):
    """One check of the input. `passed` is null where nothing is asked of the figure, `value` where there is none."""

    check: InputCheck
    passed: bool | None
    value: float | None
    unit: Unit
    detail: str


class Inspected(Shape):
    """What would be done with a series. `would`: `enrich` or `skip`; `reason`: why it would be skipped (a code)."""

    series_instance_uid: str
    would: str
    reason: str
    rule: str
    steps: tuple[InspectedStep, ...]
    rules: tuple[InspectedRule, ...]
    figures: tuple[InspectedFigure, ...]
