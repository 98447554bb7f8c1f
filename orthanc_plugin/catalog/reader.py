"""Read card.json strictly: every key is known, every value is checked, and an error names the file and the key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.bpr_checks import problems as problems_of_bpr
from orthanc_plugin.catalog.card import CardFile, CardLabel, Engine, ModelCard
from orthanc_plugin.catalog.graph import check_bpr_graph, check_chest_graph, check_graph, ends_of
from orthanc_plugin.catalog.nnunet import NnunetModel
from orthanc_plugin.catalog.nnunet_checks import configurations, expected_shape, problems
from orthanc_plugin.catalog.volume import check_ends
from orthanc_plugin.catalog.volume import problems as problems_of_volume
from orthanc_plugin.errors import ModelError

CARD = "card.json"
SCHEMA = 1

_CARD = TypeAdapter(CardFile)
_GRIDS, _GRID_MM = frozenset({"grid_mm", "airway_grid_mm"}), (0.5, 10.0)
_CHEST = frozenset({"body", "lung_left", "lung_right", "airway", "bone"})
_PLAIN = {"unexpected_keyword_argument": "There is no such key", "dataclass_type": "Input should be a JSON object"}
"""What to say instead of pydantic's messages about Python types."""


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
        card = _CARD.validate_python(raw)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_problem(error)}; docs/models.md has the schema") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); install the model again") from error
    for why in _contradictions(card):
        raise ModelError(f"{path}: {why}; docs/models.md has the schema")
    if card.name != directory.name:
        raise ModelError(f"{path}: name is {card.name!r} but the folder is {directory.name!r}; rename one of them")
    for graph in card.graphs:
        if not (directory / graph.file).is_file():
            raise ModelError(f"{directory / graph.file} is missing; install the model again")
    content = {field.name: getattr(card, field.name) for field in fields(card)}
    return ModelCard(directory=directory, digest=_digest(raw, card), **content)


def _first_problem(error: ValidationError) -> str:
    """Return the first key that pydantic refuses, and why."""
    detail = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    return f"{key}: {in_plain_words(detail)}" if key else in_plain_words(detail)


def in_plain_words(detail: Mapping[str, Any]) -> str:
    """Return pydantic's message, without its words for Python's types."""
    return _PLAIN.get(detail["type"], str(detail["msg"]))


def _contradictions(card: CardFile) -> Iterator[str]:
    """Yield what is wrong with values that are right one by one."""
    yield from _of_labels(card.labels)
    yield from _of_axes(card.axes)
    files = [graph.file for graph in card.graphs]
    if len(set(files)) < len(files):
        yield "graphs: a file is named twice"
    for name, section, engine in (
        ("nnunet", card.nnunet, Engine.NNUNET),
        ("bpr", card.bpr, Engine.BODY_PART_REGRESSION),
        ("volume", card.volume, Engine.VOLUME),
    ):
        if (section is not None) != (card.engine is engine):
            yield f"{name}: engine {engine} needs this section, other engines must not have it"
    if (not card.labels) != (card.bpr is not None):
        yield f"labels: engine {Engine.BODY_PART_REGRESSION} has none, other engines have one or more"
    if card.nnunet:
        yield from problems(card.nnunet, files, [label.number for label in card.labels])
    if card.bpr:
        yield from problems_of_bpr(card.bpr, files)
    if card.volume:
        yield from problems_of_volume(card.volume, files, [label.number for label in card.labels])
    yield from _of_preprocessing(card)


def _of_preprocessing(card: CardFile) -> Iterator[str]:
    keys = _GRIDS if card.engine is Engine.CLASSICAL_CHEST else frozenset()
    if card.preprocessing.keys() != keys:
        yield f"preprocessing: engine {card.engine} has {', '.join(sorted(keys)) or 'no keys'}"
    elif not all(_GRID_MM[0] <= mm <= _GRID_MM[1] for mm in card.preprocessing.values()):
        yield f"preprocessing: grids have {_GRID_MM[0]:g} to {_GRID_MM[1]:g} mm"
    if card.engine is Engine.CLASSICAL_CHEST and not _is_chest(card):
        yield f"labels: engine {card.engine} has one graph, and labels {', '.join(sorted(_CHEST))}"


def _is_chest(card: CardFile) -> bool:
    return len(card.graphs) == 1 and frozenset(label.key for label in card.labels) == _CHEST


def _of_labels(labels: Sequence[CardLabel]) -> Iterator[str]:
    numbers = [label.number for label in labels]
    keys, shown = {label.key for label in labels}, {label.label for label in labels}
    if numbers != sorted(set(numbers)) or len(keys) != len(numbers) or len(shown) != len(numbers):
        yield "labels: numbers rise, keys and labels differ"
    if any(key.endswith("_remainder") for key in keys):
        yield "labels: no key may end in _remainder; a SEG uses that name for what is left of a structure"
    if any(text != text.strip() or "\\" in text or not text.isprintable() for text in shown):
        yield "labels: a label is printable text without backslashes or outer spaces, as DICOM compares it"
    if any(label.number not in label.covers or not set(label.covers) <= set(numbers) for label in labels):
        yield "labels: covers holds the label's own number and numbers of this card"


def _of_axes(axes: tuple[str, str, str]) -> Iterator[str]:
    names, directions = zip(*(axis.split(":") for axis in axes), strict=True)
    sides = {"RLAPIS".index(way) // 2 for way in directions}
    if len(set(names)) < 3 or len(sides) < 3:
        yield "axes: x, y and z once each, and one direction each of R or L, A or P, I or S"


def verify_model(card: ModelCard) -> None:
    """Check that a model's files are those its card names, and have not changed since the card was read.

    Raises
    ------
    ModelError
        Naming the file that is missing or differs.
    """
    now = read_card(card.directory)
    for graph in now.graphs:
        path = card.directory / graph.file
        if sha256_of(path) != graph.sha256:
            raise ModelError(f"{path} is not the file its card names (SHA-256 differs); install the model again")
    if now.digest != card.digest:
        raise ModelError(f"model {card.name} was changed while in use; restart the service")
    if card.engine is Engine.CLASSICAL_CHEST:
        check_chest_graph(card.directory / card.graphs[0].file)
    if card.volume:
        check_ends(card.volume, ends_of(card.directory / card.graphs[0].file))
    if card.nnunet:
        _verify_shapes(card.directory, card.nnunet)
    if card.bpr:
        _verify_size(card.directory / card.graphs[0].file, card.bpr)


def _verify_shapes(directory: Path, model: NnunetModel) -> None:
    for _, _, configuration in configurations(model):
        for graph in configuration.graphs:
            if (shape := check_graph(directory / graph)) != (expected := expected_shape(configuration)):
                raise ModelError(f"{directory / graph} is {shape}, its card says {expected}; install the model again")


def _verify_size(graph: Path, model: BprModel) -> None:
    if (size := check_bpr_graph(graph)) != model.size:
        raise ModelError(f"{graph} takes slices of {size} pixels, its card says {model.size}; install the model again")


def _digest(raw: object, card: CardFile) -> str:
    """Hash the canonical card and the SHA-256 that it states of each graph, in the card's order."""
    canonical = json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    total = hashlib.sha256(canonical.encode())
    for graph in card.graphs:
        total.update(bytes.fromhex(graph.sha256))
    return total.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); get it again") from error
