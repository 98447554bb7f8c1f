"""What would be done with a series, and why: each check with its figure, before any model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from pydicom.dataset import Dataset

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.input_quality import InputFigure, InputLimits
from orthanc_plugin.domain.reading import ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import EncodingError, InputError, Refusal
from orthanc_plugin.quality.scan import measure_scan
from orthanc_plugin.results.headers import check_identity
from orthanc_plugin.rules.decide import RuleVerdict, Skip, explain, skip_of
from orthanc_plugin.rules.tags import SeriesTags
from orthanc_plugin.series.identify import identity_of


class Step(StrEnum):
    """What a series passes on its way, in this order. The value is a stable code."""

    HEADERS = "headers"
    RULES = "rules"
    IDENTITY = "identity"
    PIXELS = "pixels"
    INPUT_QUALITY = "input-quality"


class StepState(StrEnum):
    """How a step ends. The value is a stable code."""

    PASSED = "passed"
    NOTED = "noted"
    REFUSED = "refused"
    NOT_ASKED = "not-asked"


@dataclass(frozen=True, slots=True)
class Inspected:
    """One step. reason: the code of a refusal, else empty; detail: the figures in a sentence."""

    step: Step
    state: StepState
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """One series.

    would: `enrich` or `skip`. reason: why it would be skipped, a code. rule: the rule that takes the series.
    figures: checks of the input, by codes of `InputCheck`.
    """

    series_instance_uid: str
    would: str
    reason: str
    rule: str
    steps: tuple[Inspected, ...]
    rules: tuple[RuleVerdict, ...] = ()
    figures: tuple[InputFigure, ...] = ()


def inspect_series(
    series_instance_uid: str,
    rules: Sequence[Rule],
    tags_of: Callable[[], SeriesTags],
    headers: Callable[[], Sequence[Dataset]],
    read: Callable[[ReadSettings], CtSeries],
    better: Callable[[str], Skip | None],
    test_models: Iterable[str] = (),
) -> tuple[Inspection, CtSeries | None]:
    """Go through the steps until one refuses the series; rules are told even where none takes it.

    Parameters
    ----------
    series_instance_uid : str
    rules : sequence of Rule
    tags_of, headers : callable
        Give what rules judge, and the headers; may raise InputError.
    read : callable
        Reads the volume as the rule says.
    better : callable
        Gives the skip where the rule of that name enriches another series of the study instead.
    test_models : iterable of str
        Models that were trained on phantoms only.

    Returns
    -------
    Inspection, CtSeries or None
        The series where it could be read, for a picture.
    """
    steps: list[Inspected] = []
    try:
        tags = tags_of()
    except InputError as error:
        steps.append(_refused(Step.HEADERS, error))
        return _ended(series_instance_uid, steps), None
    steps.append(Inspected(Step.HEADERS, StepState.PASSED, "", _in_words(tags)))
    verdicts = explain(rules, tags, frozenset(test_models))
    rule = next((rule for rule, verdict in zip(rules, verdicts, strict=True) if verdict.matches), None)
    steps.append(_judged(rule, verdicts, better))
    series: CtSeries | None = None
    figures: tuple[InputFigure, ...] = ()
    try:
        identity_of(headers())
        steps.append(Inspected(Step.IDENTITY, StepState.PASSED, "", "one patient, study and series, valid UIDs"))
        reading = ReadSettings() if rule is None else rule.reading
        series = _vouched(partial(read, reading), steps)
        figures = _measured(series, InputLimits() if rule is None else rule.input_quality.limits, steps)
    except InputError as error:
        steps.append(_refused(Step.IDENTITY if len(steps) < 3 else Step.PIXELS, error))
    return _ended(series_instance_uid, steps, rule, verdicts, figures), series


def _vouched(read: Callable[[], CtSeries], steps: list[Inspected]) -> CtSeries:
    series = read()
    try:
        check_identity(series)
    except EncodingError as error:
        raise InputError(Refusal.INVALID_IDENTITY, str(error)) from None
    size = " x ".join(map(str, series.volume.voxels_hu.shape))
    spacing = " x ".join(f"{step:.3f}" for step in series.volume.spacing_mm)
    notes = (*series.notes, *series.marks)
    detail = "; ".join((f"{size} voxels of {spacing} mm (z, y, x)", *notes))
    steps.append(Inspected(Step.PIXELS, StepState.NOTED if notes else StepState.PASSED, "", detail))
    return series


def _measured(series: CtSeries, limits: InputLimits, steps: list[Inspected]) -> tuple[InputFigure, ...]:
    figures = measure_scan(series, limits)
    failed = [figure for figure in figures if figure.passed is False]
    refusing = [figure for figure in failed if figure.check in limits.refuse]
    state = StepState.REFUSED if refusing else StepState.NOTED if failed else StepState.PASSED
    reason = Refusal.INPUT_QUALITY if refusing else ""
    detail = ", ".join(figure.check for figure in failed)
    told = f"failed: {detail}" if failed else "no check failed"
    steps.append(Inspected(Step.INPUT_QUALITY, state, reason, told))
    return figures


def _judged(rule: Rule | None, verdicts: Sequence[RuleVerdict], better: Callable[[str], Skip | None]) -> Inspected:
    if rule is not None:
        if (skip := better(rule.name)) is not None:
            return Inspected(Step.RULES, StepState.REFUSED, skip.reason, skip.sentence)
        return Inspected(Step.RULES, StepState.PASSED, "", f"rule {rule.name} takes the series")
    skip = skip_of(verdicts)
    return Inspected(Step.RULES, StepState.REFUSED, skip.reason, skip.sentence)


def _refused(step: Step, error: InputError) -> Inspected:
    return Inspected(step, StepState.REFUSED, error.reason, str(error))


def _ended(
    uid: str,
    steps: list[Inspected],
    rule: Rule | None = None,
    verdicts: tuple[RuleVerdict, ...] = (),
    figures: tuple[InputFigure, ...] = (),
) -> Inspection:
    refused = next((step for step in steps if step.state is StepState.REFUSED), None)
    reached = {step.step for step in steps}
    steps += [Inspected(step, StepState.NOT_ASKED, "", "") for step in Step if step not in reached]
    would, reason = ("enrich", "") if refused is None else ("skip", refused.reason)
    return Inspection(uid, would, reason, "" if rule is None else rule.name, tuple(steps), verdicts, figures)


def _in_words(tags: SeriesTags) -> str:
    spacing = "unknown" if tags.spacing_mm is None else f"{tags.spacing_mm:g} mm"
    thickness = "unknown" if tags.slice_thickness_mm is None else f"{tags.slice_thickness_mm:g} mm"
    axial = {True: "axial", False: "not axial", None: "of unknown orientation"}[tags.axial]
    return f"{tags.slices} slices, {axial}, spacing {spacing}, thickness {thickness}"
