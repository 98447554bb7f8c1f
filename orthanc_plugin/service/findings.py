"""What a job found, as its result page shows it: volumes beside those of adults, checks, and where it all came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.job import EnrichJob
from orthanc_plugin.domain.plan import Plan
from orthanc_plugin.domain.told_apart import told_apart
from orthanc_plugin.errors import ModelError
from orthanc_plugin.jobs.record import JobView
from orthanc_plugin.quality.structures import structure_of

_SEGMENT = "segment "


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume of one structure.

    label: its name, with that of the model where several models of the job have it.
    published_ml, asked_ml: volumes of adults, and what the check accepts; None where nobody has published them.
    source: who published them. checks: results of all checks of the structure.
    """

    key: str
    label: str
    model: str
    volume_ml: float
    published_ml: tuple[float, float] | None
    asked_ml: tuple[float, float] | None
    source: str
    checks: tuple[CheckResult, ...]

    @property
    def plausible(self) -> bool | None:
        """What the check of the volume says; None if it was not asked."""
        return next((result.passed for result in self.checks if result.check is Check.VOLUME), None)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.checks if not result.passed)


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """A model that ran in a job.

    card: None if the model of that digest is not installed here. provider: what it ran on; empty if it did not run.
    """

    name: str
    digest: str
    card: ModelCard | None
    provider: str
    seconds: float


class Cards:
    """Finds the cards of models that jobs name, in one directory of models and among the built-in ones."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def card(self, name: str, digest: str) -> ModelCard | None:
        """Return the card of a model; None unless the very model is installed."""
        try:
            card = find_model(name, self._directory)
        except ModelError:
            return None
        return card if card.digest == digest else None


def models_of(view: JobView, job: EnrichJob, cards: Cards) -> tuple[ModelUsed, ...]:
    """List the models of a job's plan, in the order in which they run."""
    location = job.plan.location.model if job.plan.location is not None else None
    planned = [("locate", location)] if location is not None else []
    planned += [("segment", model) for model in job.plan.models]
    stages = {stage.name: stage for stage in view.stages}
    used = []
    for verb, model in planned:
        stage = stages.get(f"{verb} {model.name}")
        card = cards.card(model.name, model.digest)
        provider, seconds = (stage.provider, stage.seconds) if stage is not None else ("", 0.0)
        used.append(ModelUsed(model.name, model.digest, card, provider, seconds))
    return tuple(used)


def volumes_of(view: JobView, models: tuple[ModelUsed, ...]) -> tuple[Volume, ...]:
    """List the structures of a job with their volumes, model by model."""
    cards = {model.name: model.card for model in models}
    found = [_volume(view, model, key, volume_ml, cards) for model, key, volume_ml in segmented(view)]
    names = told_apart([(volume.label, volume.model) for volume in found])
    return tuple(replace(volume, label=name) for volume, name in zip(found, names, strict=True))


def segmented(view: JobView) -> tuple[tuple[str, str, float], ...]:
    """List model, key and volume (mL) of each structure of a job."""
    return tuple(
        (stage.name.removeprefix(_SEGMENT), key, volume_ml)
        for stage in view.stages
        for key, volume_ml in stage.volumes_ml.items()
    )


def _volume(view: JobView, model: str, key: str, volume_ml: float, cards: dict[str, ModelCard | None]) -> Volume:
    card = cards.get(model)
    label = next((label for label in card.labels if label.key == key), None) if card is not None else None
    known = _range(label)
    checks = tuple(result for result in view.checks if (result.model, result.key) == (model, key))
    name = label.label if label is not None else key.replace("_", " ").capitalize()
    return Volume(key, name, model, volume_ml, *known, checks)


def _range(label: CardLabel | None) -> tuple[tuple[float, float] | None, tuple[float, float] | None, str]:
    structure = structure_of(label) if label is not None else None
    if structure is None or structure.volume is None:
        return None, None, ""
    return structure.volume.published_ml, structure.volume.asked_ml, structure.volume.source


def parameters_of(plan: Plan) -> tuple[tuple[str, str], ...]:
    """List the parameters of a plan as names and values in words; models are listed by `models_of`."""
    values = {name: value for name, value in asdict(plan).items() if name not in ("rule", "models")}
    return tuple(_flat(values, ""))


def _flat(values: Mapping[str, object], before: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        words = f"{before}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{words}: ")
        elif value not in ("", (), None):
            yield words, ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
