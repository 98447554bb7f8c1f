"""A plan: what one series gets, and the objects that come of it. Rules make plans; the worker carries them out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from orthanc_plugin.identity import digest


class Output(StrEnum):
    """Kinds of stored objects."""

    SEG = "seg"
    RADIOMICS = "radiomics"
    LANDMARKS = "landmarks"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One result as it lies in the home archive. `adopted`: it was there before this run."""

    kind: Output
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    adopted: bool


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model by name, pinned to the digest it had when the plan was made."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one series gets, where its results go, and by which rule."""

    rule: str
    models: tuple[PlannedModel, ...]
    outputs: tuple[Output, ...]
    home_archive: str
    destinations: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Identity of the plan. The rule's name is no part of it: renaming a rule re-enriches nothing."""
        content = {key: value for key, value in asdict(self).items() if key != "rule"}
        return digest(json.dumps(content, sort_keys=True))

    def to_json(self) -> str:
        """The plan as a job argument."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan of a job argument."""
        raw = json.loads(text)
        return cls(
            rule=raw["rule"],
            models=tuple(PlannedModel(**model) for model in raw["models"]),
            outputs=tuple(Output(output) for output in raw["outputs"]),
            home_archive=raw["home_archive"],
            destinations=tuple(raw["destinations"]),
        )
