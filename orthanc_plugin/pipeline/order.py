"""The order of the stages of a job; the caller decides how each one runs: as a recorded step, or at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from orthanc_plugin.domain.job import FIND_MASKS, Found, JobState, StageOutcome, stage_of_mask
from orthanc_plugin.domain.plan import BODY_OUTPUTS, Location, Measure, Output
from orthanc_plugin.errors import Refusal
from orthanc_plugin.pipeline.guards import check_location
from orthanc_plugin.pipeline.session import Session, location_of

Run = Callable[[str, Callable[[], Found]], StageOutcome]
"""Runs one stage, given its name and its body."""


def stages_of(session: Session, run: Run) -> Iterator[StageOutcome]:
    """Run the stages of the plan in order, up to the one that ends the job; each runs when its outcome is asked for."""
    for outcome in _all_stages(session, run):
        yield outcome
        if outcome.state is not JobState.RUNNING:
            return


def _all_stages(session: Session, run: Run) -> Iterator[StageOutcome]:
    plan = session.job.plan
    yield run("retrieve", session.retrieve)
    if plan.measure is Measure.EXPERT:
        yield from _stages_of_masks(session, run)
        return
    located: StageOutcome | None = None
    if plan.location is not None and (locator := plan.location.model) is not None:
        yield (located := run(f"locate {locator.name}", partial(session.locate, locator)))
        if plan.location.is_guarded:
            yield run(f"guard {locator.name}", partial(_guard, plan.location, located))
        for output in (kind for kind in BODY_OUTPUTS if kind in plan.outputs):
            yield run(f"report {output}", partial(session.report_location, locator, output, located))
    segmented: list[StageOutcome] = []
    for model in plan.models:
        segmented.append(run(f"segment {model.name}", partial(session.segment, model, located)))
        yield segmented[-1]
    found = [(model, seg) for model, seg in zip(plan.models, segmented, strict=True) if seg.stored is not None]
    for output, verb, stage in (
        (Output.PROBABILITIES, "weigh", partial(session.store_probabilities, located=located)),
        (Output.RADIOMICS, "measure", session.measure),
        (Output.LANDMARKS, "report", partial(session.report, located=located)),
        (Output.RTSTRUCT, "outline", partial(session.export, Output.RTSTRUCT)),
        (Output.PREVIEW, "preview", partial(session.export, Output.PREVIEW)),
        (Output.SECONDARY_CAPTURE, "capture", session.capture),
        (Output.KEY_OBJECTS, "list", partial(session.export, Output.KEY_OBJECTS)),
    ):
        for model, seg in found if output in plan.outputs else ():
            yield run(f"{verb} {model.name}", partial(stage, model, seg))
    checked: StageOutcome | None = None
    if found and Output.CHECKS in plan.outputs:
        yield (checked := run("check", partial(session.check, found, located)))
    for model, seg in found if Output.SUMMARY_PDF in plan.outputs else ():
        what = None if checked is None else (checked, [other for _, other in found])
        yield run(f"summarise {model.name}", partial(session.summarise, model, seg, what))
    if Output.INPUT_QUALITY in plan.outputs:
        yield run(f"report {Output.INPUT_QUALITY}", partial(session.report_input, found, located))
    beside = [*zip(plan.models, segmented, strict=True)]
    for model in plan.shadow:
        yield _harmless(run(f"shadow {model.name}", partial(session.shadow, model, beside, located)))


def _harmless(outcome: StageOutcome) -> StageOutcome:
    """Let the job go on where a shadow model failed; if the series is gone, it ends all the same."""
    if outcome.state is JobState.RUNNING or outcome.reason == Refusal.GONE:
        return outcome
    notes = (*outcome.stage.notes, f"not run: {outcome.detail}")
    return replace(outcome, state=JobState.RUNNING, reason="", detail="", stage=replace(outcome.stage, notes=notes))


def _stages_of_masks(session: Session, run: Run) -> Iterator[StageOutcome]:
    yield (found := run(FIND_MASKS, session.find_masks))
    measured = []
    for mask in found.masks:
        measured.append(run(stage_of_mask(mask), partial(session.measure_masks, mask)))
        yield measured[-1]
    yield run("check masks", partial(session.require_a_report, measured))


def _guard(wanted: Location, located: StageOutcome) -> Found:
    check_location(wanted, location_of(located))
    return Found()
