"""Model cards: what a model is, what goes in, what comes out, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.nnunet import NnunetModel
from orthanc_plugin.codes import Code


class Engine(StrEnum):
    """Which engine of `inference` runs the model."""

    CLASSICAL_CHEST = "classical-chest"
    NNUNET = "nnunet"
    BODY_PART_REGRESSION = "bpr"


@dataclass(frozen=True, slots=True)
class CardLabel:
    """One structure a model can find; the fields are those of `masks.Segment`."""

    number: int
    key: str
    label: str
    category: Code
    type: Code
    modifier: Code | None
    colour: tuple[int, int, int]
    covers: tuple[int, ...]
    shape_features: bool


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as its card.json describes it (docs/models.md has the schema).

    digest: SHA-256 (hex) over the card and all its graphs; what plans pin and results carry.
    axes: order and direction of the array the network expects, e.g. `("z:S", "y:P", "x:L")`: each axis
        with the patient direction toward which its index grows.
    nnunet, bpr: what the engine of that name needs, None for other engines.
    test_model: trained on phantoms only; rules refuse it on patients unless they say otherwise.
    """

    directory: Path
    schema: int
    name: str
    version: str
    engine: Engine
    digest: str
    graphs: tuple[str, ...]
    axes: tuple[str, str, str]
    preprocessing: dict[str, float]
    labels: tuple[CardLabel, ...]
    manufacturer: str
    licence: str
    citation: str
    intended_use: str
    limits: tuple[str, ...]
    nnunet: NnunetModel | None = None
    bpr: BprModel | None = None
    test_model: bool = False
