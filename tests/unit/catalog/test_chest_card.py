"""A card of the built-in engine that cannot be right ends in a ModelError, never in another error later."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.errors import ModelError

NAME = "chest_structures"


def copied(folder: Path, **changes: Any) -> Path:
    directory = folder / NAME
    shutil.copytree(find_model(NAME, None).directory, directory)
    card = json.loads((directory / "card.json").read_text())
    (directory / "card.json").write_text(json.dumps(card | changes))
    return directory


@pytest.mark.parametrize(
    "grids",
    [
        {},
        {"grid_mm": 3.0},
        {"grid_mm": 0.0, "airway_grid_mm": 1.5},
        {"grid_mm": float("nan"), "airway_grid_mm": 1.5},
        {"grid_mm": 3.0, "airway_grid_mm": float("inf")},
        {"grid_mm": 3.0, "airway_grid_mm": 1.5, "other": 1.0},
    ],
)
def test_grids_that_cannot_be_are_refused(tmp_path: Path, grids: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="preprocessing"):
        read_card(copied(tmp_path, preprocessing=grids))


def test_labels_that_the_engine_does_not_make_are_refused(tmp_path: Path) -> None:
    labels = json.loads((find_model(NAME, None).directory / "card.json").read_text())["labels"]
    with pytest.raises(ModelError, match="labels"):
        read_card(copied(tmp_path, labels=labels[1:2]))


def with_graph(folder: Path, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    directory = copied(folder, graphs=[{"file": f"{NAME}.onnx", "sha256": sha256}])
    (directory / f"{NAME}.onnx").write_bytes(content)
    return directory


def test_an_empty_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an ONNX file"):
        verify_model(read_card(with_graph(tmp_path, b"")))


def test_a_graph_that_keeps_values_elsewhere_is_refused(tmp_path: Path) -> None:
    model = onnx.load(find_model(NAME, None).directory / f"{NAME}.onnx")
    tensor = onnx.TensorProto(name="v", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    model.graph.initializer.append(tensor)
    with pytest.raises(ModelError, match="other files"):
        verify_model(read_card(with_graph(tmp_path, model.SerializeToString())))
