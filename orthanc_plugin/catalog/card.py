"""Model cards: what a model is, what goes in, what comes out, and who made it.

The dataclasses are the schema of card.json, which `reader` reads by them and docs/models.md explains.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.nnunet import NnunetModel
from orthanc_plugin.catalog.volume import VolumeModel
from orthanc_plugin.codes import ARTIFICIAL_INTELLIGENCE, MORPHOLOGICAL_OPERATIONS, Code
from orthanc_plugin.domain.masks import Segment

NAME = r"^[a-z][a-z0-9_-]{0,63}$"
"""What a model may be called."""

Text = Annotated[str, Field(min_length=1)]
Axis = Annotated[str, Field(pattern=r"^[xyz]:[RLAPIS]$")]


class Engine(StrEnum):
    """Which engine of `inference` runs the model."""

    CLASSICAL_CHEST = "classical-chest"
    NNUNET = "nnunet"
    BODY_PART_REGRESSION = "bpr"
    VOLUME = "volume"


class BodyField(StrEnum):
    """The part of the body that a model was made for. Elsewhere it would label organs that are not there."""

    HEAD_NECK = "head-neck"


@dataclass(frozen=True, slots=True)
class CardLabel(Segment):
    """One structure that a model can find. shape_features: whether radiomics measures its shape."""

    shape_features: bool

    def to_json(self) -> dict[str, Any]:
        """Return the label as card.json holds it."""
        modifier = self.modifier and _code(self.modifier)
        return asdict(self) | {"category": _code(self.category), "type": _code(self.type), "modifier": modifier}


def _code(code: Code) -> dict[str, str]:
    return {"scheme": code.scheme, "value": code.value, "meaning": code.meaning}


@dataclass(frozen=True, slots=True)
class GraphFile:
    """An ONNX file in the model's folder, and the SHA-256 (hex) of its bytes."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\.onnx$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFile:
    """card.json, key by key.

    axes: order and direction of the array the network expects, e.g. `("z:S", "y:P", "x:L")`: each axis
        with the patient direction toward which its index grows.
    algorithm_family: how the model works (PS3.16 CID 7162); None on older cards, for which the engine tells it.
    nnunet, bpr, volume: what the engine of that name needs, None for other engines.
    test_model: trained on phantoms only; rules refuse it on patients unless they say otherwise.
    field: the part of the body that the model sees; it does not run on scans without it. None: the whole scan.
    """

    # Holds for the dataclasses inside as well: an unknown key is an error at every level.
    __pydantic_config__ = ConfigDict(extra="forbid")
    schema: Literal[1]
    name: Annotated[str, Field(pattern=NAME)]
    version: Text
    engine: Engine
    graphs: Annotated[tuple[GraphFile, ...], Field(min_length=1)]
    axes: tuple[Axis, Axis, Axis]
    preprocessing: dict[str, float]
    labels: tuple[CardLabel, ...]
    manufacturer: Text
    licence: Text
    citation: Text
    intended_use: Text
    limits: tuple[Text, ...]
    algorithm_family: Code | None = None
    nnunet: NnunetModel | None = None
    bpr: BprModel | None = None
    volume: VolumeModel | None = None
    test_model: bool = False
    field: BodyField | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(CardFile):
    """A card and the folder it was read from.

    digest: SHA-256 (hex) over the card and all its graphs. Plans pin it and results carry it.
    """

    directory: Path
    digest: str

    @property
    def family(self) -> Code:
        """Algorithm family of the model (PS3.16 CID 7162)."""
        classical = self.engine is Engine.CLASSICAL_CHEST
        return self.algorithm_family or (MORPHOLOGICAL_OPERATIONS if classical else ARTIFICIAL_INTELLIGENCE)
