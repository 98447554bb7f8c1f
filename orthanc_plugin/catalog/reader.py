"""card.json read strictly: every key known, every value checked, every error naming the file and what is allowed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.bpr_checks import problems as problems_of_bpr
from orthanc_plugin.catalog.card import CardLabel, Engine, ModelCard
from orthanc_plugin.catalog.graph import check_bpr_graph, check_graph
from orthanc_plugin.catalog.nnunet import NnunetModel
from orthanc_plugin.catalog.nnunet_checks import configurations, expected_shape, problems
from orthanc_plugin.codes import Code
from orthanc_plugin.errors import ModelError

CARD = "card.json"
SCHEMA = 1
NAME = r"^[a-z][a-z0-9_-]{0,63}$"

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[int, Field(ge=1, le=255)]
Axis = Annotated[str, Field(pattern=r"^[xyz]:[RLAPIS]$")]
Byte = Annotated[int, Field(ge=0, le=255)]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeFile(Strict):
    """A coded concept as files of this project write it."""

    scheme: Text
    value: Text
    meaning: Annotated[str, Field(min_length=1, max_length=64)]

    def code(self) -> Code:
        """The concept itself."""
        return Code(self.value, self.scheme, self.meaning)


class _LabelFile(Strict):
    number: Number
    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    label: Annotated[str, Field(min_length=1, max_length=64)]
    category: CodeFile
    type: CodeFile
    modifier: CodeFile | None = None
    colour: tuple[Byte, Byte, Byte]
    covers: tuple[Number, ...]
    shape_features: bool

    def label_of_card(self) -> CardLabel:
        modifier = self.modifier.code() if self.modifier else None
        kind = (self.category.code(), self.type.code(), modifier)
        return CardLabel(self.number, self.key, self.label, *kind, self.colour, self.covers, self.shape_features)


class _GraphFile(Strict):
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\.onnx$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _CardFile(Strict):
    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=NAME)]
    version: Text
    engine: Engine
    graphs: Annotated[tuple[_GraphFile, ...], Field(min_length=1)]
    axes: tuple[Axis, Axis, Axis]
    preprocessing: dict[str, float]
    labels: tuple[_LabelFile, ...]
    manufacturer: Text
    licence: Text
    citation: Text
    intended_use: Text
    limits: tuple[Text, ...]
    nnunet: NnunetModel | None = None
    bpr: BprModel | None = None
    test_model: bool = False

    @model_validator(mode="after")
    def _labels_fit_together(self) -> _CardFile:
        numbers = [label.number for label in self.labels]
        keys, shown = {label.key for label in self.labels}, {label.label for label in self.labels}
        if numbers != sorted(set(numbers)) or len(keys) != len(numbers) or len(shown) != len(numbers):
            raise ValueError("labels: numbers rise, keys and labels differ")
        if any(key.endswith("_remainder") for key in keys):
            raise ValueError("labels: no key ends in _remainder, which a SEG says of what is left of a structure")
        if any(text != text.strip() or "\\" in text or not text.isprintable() for text in shown):
            raise ValueError("labels: printable text without backslashes or outer spaces, as DICOM compares it")
        if any(label.number not in label.covers or not set(label.covers) <= set(numbers) for label in self.labels):
            raise ValueError("labels: covers holds the label's own number and numbers of this card")
        return self

    @model_validator(mode="after")
    def _axes_are_three(self) -> _CardFile:
        names, directions = zip(*(axis.split(":") for axis in self.axes), strict=True)
        sides = {"RLAPIS".index(way) // 2 for way in directions}
        if len(set(names)) < 3 or len(sides) < 3:
            raise ValueError("axes: x, y and z once each, and one direction each of R or L, A or P, I or S")
        return self

    @model_validator(mode="after")
    def _engine_has_what_it_needs(self) -> _CardFile:
        files = [graph.file for graph in self.graphs]
        if len(set(files)) < len(files):
            raise ValueError("graphs: a file is named twice")
        for name, section, engine in (
            ("nnunet", self.nnunet, Engine.NNUNET),
            ("bpr", self.bpr, Engine.BODY_PART_REGRESSION),
        ):
            if (section is not None) != (self.engine is engine):
                raise ValueError(f"{name}: engine {engine} needs this section, other engines must not have it")
        if (not self.labels) != (self.bpr is not None):
            raise ValueError(f"labels: engine {Engine.BODY_PART_REGRESSION} has none, other engines have one or more")
        for why in self._problems(files):
            raise ValueError(why)
        return self

    def _problems(self, files: Sequence[str]) -> Iterator[str]:
        if self.nnunet:
            yield from problems(self.nnunet, files, [label.number for label in self.labels])
        if self.bpr:
            yield from problems_of_bpr(self.bpr, files)


def read_card(directory: Path) -> ModelCard:
    """Read card.json of one model's folder.

    Raises
    ------
    ModelError
        Naming the file, the key and what is allowed.
    """
    path = directory / CARD
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        card = _CardFile.model_validate(raw)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first(error)}; docs/models.md has the schema") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); install the model again") from error
    if card.name != directory.name:
        raise ModelError(f"{path}: name is {card.name!r} but the folder is {directory.name!r}; rename one of them")
    graphs = tuple(graph.file for graph in card.graphs)
    for graph in graphs:
        if not (directory / graph).is_file():
            raise ModelError(f"{directory / graph} is missing; install the model again")
    return ModelCard(
        directory=directory,
        schema=card.schema_,
        name=card.name,
        version=card.version,
        engine=card.engine,
        digest=_digest(raw, [graph.sha256 for graph in card.graphs]),
        graphs=graphs,
        axes=card.axes,
        preprocessing=card.preprocessing,
        labels=tuple(label.label_of_card() for label in card.labels),
        manufacturer=card.manufacturer,
        licence=card.licence,
        citation=card.citation,
        intended_use=card.intended_use,
        limits=card.limits,
        nnunet=card.nnunet,
        bpr=card.bpr,
        test_model=card.test_model,
    )


def verify_model(card: ModelCard) -> None:
    """Check that the files of a model are those its card names, and unchanged since the card was read.

    Raises
    ------
    ModelError
        Naming the file that is missing or differs.
    """
    raw = json.loads((card.directory / CARD).read_text(encoding="utf-8"))
    for graph in raw["graphs"]:
        path = card.directory / graph["file"]
        if _sha256(path) != graph["sha256"]:
            raise ModelError(f"{path} is not the file its card names (SHA-256 differs); install the model again")
    if read_card(card.directory).digest != card.digest:
        raise ModelError(f"model {card.name} was changed while in use; restart the service")
    if card.nnunet:
        _verify_shapes(card.directory, card.nnunet)
    if card.bpr:
        _verify_size(card.directory / card.graphs[0], card.bpr)


def _verify_shapes(directory: Path, model: NnunetModel) -> None:
    for _, _, configuration in configurations(model):
        for graph in configuration.graphs:
            if (shape := check_graph(directory / graph)) != (expected := expected_shape(configuration)):
                raise ModelError(f"{directory / graph} is {shape}, its card says {expected}; install the model again")


def _verify_size(graph: Path, model: BprModel) -> None:
    if (size := check_bpr_graph(graph)) != model.size:
        raise ModelError(f"{graph} takes slices of {size} pixels, its card says {model.size}; install the model again")


def _digest(raw: object, graphs: Sequence[str]) -> str:
    """SHA-256 over the canonical card and the SHA-256 it states of each graph, in the card's order."""
    canonical = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    total = hashlib.sha256(canonical.encode())
    for graph in graphs:
        total.update(bytes.fromhex(graph))
    return total.hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); install the model again") from error


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    return f"{key}: {detail['msg']}" if key else detail["msg"]
