"""How far a running job is: the stages of its plan, and the part of them that is done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, cast

from orthanc_plugin.domain.job import EnrichJob, StageOutcome, StageView
from orthanc_plugin.domain.plan import Output, Plan, StoredObject
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.pipeline.memory import Models
from orthanc_plugin.pipeline.order import stages_of
from orthanc_plugin.pipeline.session import Session

_SHARES = {"retrieve": 2, "locate": 3, "segment": 20, "measure": 20}
"""Shares of the time by the first word of a stage; each other stage has a share of 1. They are rough on purpose."""
_ANY = StoredObject(Output.SEG, "", "", "", "", False)


@dataclass(frozen=True, slots=True)
class Progress:
    """A running job. stage: what runs now; percent: what is done, 0 to 99."""

    job: str
    series_instance_uid: str
    stage: str
    percent: int


def progress_of(view: JobView, job: EnrichJob) -> Progress:
    """Tell how far a job is, by the stages that ended and the one that runs."""
    planned = stages_planned(job.plan.to_json())
    done = {stage.name for stage in view.stages}
    whole = sum(map(_share, planned))
    part = sum(_share(name) for name in planned if name in done)
    return Progress(view.id, view.series_instance_uid, view.stage, min(99, 100 * part // max(1, whole)))


@lru_cache(maxsize=200)
def stages_planned(plan: str) -> tuple[str, ...]:
    """Name the stages of a plan in their order, if each of them goes well.

    Parameters
    ----------
    plan : str
        The plan as `Plan.to_json` writes it.
    """
    job = EnrichJob("", "", "", "", 0, Plan.from_json(plan))
    session = Session(job, cast(Models, None), _never, _never)  # no stage runs
    return tuple(
        outcome.stage.name
        for outcome in stages_of(session, lambda name, _: StageOutcome(StageView(name, 0.0, 0.0), _ANY))
    )


def _never(*_: object) -> NoReturn:
    raise AssertionError("a stage that is only named does not run")


def _share(stage: str) -> int:
    return _SHARES.get(stage.partition(" ")[0], 1)
