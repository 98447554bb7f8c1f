"""The model catalog: the built-in model is found, rebuilt bit by bit, and a bad card or graph is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.catalog import chest_graph
from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.catalog.shelf import build_model, find_model, list_models, verify_model
from orthanc_plugin.errors import ModelError

CHEST = "chest_structures"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models directory that holds a copy of the built-in model."""
    shutil.copytree(find_model(CHEST, None).directory, tmp_path / CHEST)
    return tmp_path


def edit_card(models: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = models / CHEST / "card.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return path.parent


def test_rebuilding_gives_the_shipped_bytes(tmp_path: Path) -> None:
    shipped, built = find_model(CHEST, None), build_model(CHEST, tmp_path)
    for name in ("card.json", "LICENSE", *(graph.file for graph in shipped.graphs)):
        assert (built.directory / name).read_bytes() == (shipped.directory / name).read_bytes(), name
    assert built.digest == shipped.digest


def test_building_without_onnx_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install orthanc-enrichment\[build\]"):
        chest_graph.chest_graph()
    with pytest.raises(ModelError, match="chest_structures"):
        build_model("unknown", tmp_path)


def test_builtin_labels_are_the_agreed_ones() -> None:
    card = find_model(CHEST, None)
    assert [(label.number, label.key) for label in card.labels] == [
        (1, "body"),
        (2, "lung_left"),
        (3, "lung_right"),
        (4, "airway"),
        (5, "bone"),
    ]
    assert card.labels[0].covers == (1, 2, 3, 4, 5)
    assert {label.key for label in card.labels if label.shape_features} == {"lung_left", "lung_right", "airway"}
    assert "not for diagnosis" in card.intended_use


def test_the_operators_model_hides_the_builtin_one(models: Path) -> None:
    edit_card(models, lambda raw: raw.update(version="9"))
    assert find_model(CHEST, models).version == "9"
    assert [card.version for card in list_models(models) if card.name == CHEST] == ["9"]
    assert find_model(CHEST, None).version != "9"


def test_a_changed_card_is_another_model(models: Path) -> None:
    before = find_model(CHEST, None).digest
    edit_card(models, lambda raw: raw.update(limits=["other"]))
    assert find_model(CHEST, models).digest != before


def test_an_altered_graph_is_refused(models: Path) -> None:
    graph = models / CHEST / f"{CHEST}.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"chest_structures\.onnx.*SHA-256"):
        verify_model(find_model(CHEST, models))


def test_a_model_changed_while_in_use_is_refused(models: Path) -> None:
    card = find_model(CHEST, models)
    edit_card(models, lambda raw: raw.update(version="2"))
    with pytest.raises(ModelError, match="changed while in use"):
        verify_model(card)


def test_a_missing_graph_is_named(models: Path) -> None:
    (models / CHEST / f"{CHEST}.onnx").unlink()
    with pytest.raises(ModelError, match=r"chest_structures\.onnx is missing"):
        find_model(CHEST, models)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda raw: raw.update(schema=2), "schema"),
        (lambda raw: raw.pop("licence"), "licence"),
        (lambda raw: raw.update(surprise=1), "surprise"),
        (lambda raw: raw.update(engine="magic"), "engine"),
        (lambda raw: raw["graphs"][0].update(file="../evil.onnx"), "graphs.0.file"),
        (lambda raw: raw["labels"][1].update(number=300), "labels.1.number"),
        (lambda raw: raw["labels"][1].update(number=1), "numbers rise"),
        (lambda raw: raw["labels"][1].update(covers=[9]), "covers"),
        (lambda raw: raw["labels"][1].update(label="x" * 65), "labels.1.label"),
        (lambda raw: raw.update(name="other"), "rename"),
    ],
)
def test_a_bad_card_is_refused_by_its_key(models: Path, change: Callable[[dict[str, Any]], object], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        read_card(edit_card(models, change))


def test_unknown_models_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"known are: .*chest_structures"):
        find_model("unknown", None)
    with pytest.raises(ModelError, match="ModelsDirectory"):
        list_models(tmp_path / "missing")


def test_a_card_that_is_not_valid_json_is_refused(models: Path) -> None:
    (models / CHEST / "card.json").write_text("{")
    with pytest.raises(ModelError, match=r"card\.json cannot be read"):
        find_model(CHEST, models)
