"""Cards of body part regressions: what their section may say, and the graph beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import TypeAdapter

from orthanc_plugin.catalog.bpr import BprModel
from orthanc_plugin.catalog.graph import check_bpr_graph
from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.cli import main as cli
from orthanc_plugin.errors import ModelError
from tests.support.cases.bpr_case import bpr_model, weighted

NAME = "levels"
SIZE = 32
LABEL = {
    "number": 1,
    "key": "heart",
    "label": "Heart",
    "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
    "type": {"scheme": "SCT", "value": "80891009", "meaning": "Heart"},
    "colour": [1, 2, 3],
    "covers": [1],
    "shape_features": True,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / NAME
    folder.mkdir()
    weighted(folder / "model.onnx", np.ones((SIZE, SIZE)), 0.0)
    section = TypeAdapter(BprModel).dump_python(bpr_model(size=SIZE), mode="json")
    card = {
        "schema": 1,
        "name": NAME,
        "version": "1",
        "engine": "bpr",
        "graphs": [{"file": "model.onnx", "sha256": _sha256(folder / "model.onnx")}],
        "axes": ["z:S", "y:P", "x:L"],
        "preprocessing": {},
        "labels": [],
        "manufacturer": "test",
        "licence": "CC0-1.0",
        "citation": "none",
        "intended_use": "tests",
        "limits": [],
        "bpr": section | {"source": [{"file": "model.pt", "sha256": "ab"}]},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = model / "card.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return model


def test_a_card_without_labels_is_read_and_verified(model: Path) -> None:
    card = read_card(model)
    assert card.labels == ()
    assert card.bpr == TypeAdapter(BprModel).validate_python(json.loads((model / "card.json").read_text())["bpr"])
    assert card.bpr is not None
    assert (len(card.bpr.look_up), card.bpr.size, card.nnunet) == (35, SIZE, None)
    verify_model(card)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.pop("bpr"), "bpr: engine bpr needs this section"),
        (lambda raw: raw.update(engine="classical-chest"), "bpr: engine bpr needs this section, other engines must"),
        (lambda raw: raw.update(labels=[LABEL]), "labels: engine bpr has none"),
        (lambda raw: raw["graphs"].append(raw["graphs"][0] | {"file": "b.onnx"}), "graphs: body part regression has"),
        (lambda raw: raw["bpr"].update(surprise=1), "surprise"),
        (lambda raw: raw["bpr"].update(start_raw="low"), "start_raw"),
        (lambda raw: raw["bpr"].update(start_raw=float("nan")), "bpr: all numbers must be finite"),
        (lambda raw: raw["bpr"]["look_up"][3].update(sd=float("inf")), "bpr: all numbers must be finite"),
        (lambda raw: raw["bpr"].update(background_scores=[float("nan")]), "bpr: all numbers must be finite"),
        (lambda raw: raw["bpr"].update(end_raw=1e308), "bpr: all numbers must be finite, and at most 1e\\+06"),
        (lambda raw: raw["bpr"].update(end_raw=raw["bpr"]["start_raw"]), "start_raw, end_raw"),
        (lambda raw: raw["bpr"].update(end_raw=raw["bpr"]["start_raw"] + 1e-9), "start_raw, end_raw"),
        (lambda raw: raw["bpr"]["look_up"].reverse(), "by rising mean"),
        (lambda raw: raw["bpr"]["look_up"].insert(0, raw["bpr"]["look_up"][0]), "named once each"),
        (lambda raw: raw["bpr"]["look_up"][4].update(key="L6"), "unknown landmark L6; known are pelvis_start"),
        (lambda raw: raw["bpr"]["look_up"][4].update(sd=0), "every sd is above 0"),
        (lambda raw: raw["bpr"]["look_up"].pop(0), "pelvis_start is at 0 and eyes_end at 100"),
        (lambda raw: raw["bpr"].update(slope_mean=0), "slope_mean"),
        (lambda raw: raw["bpr"].update(slope_mean=1e-320), "slope_mean"),
        (lambda raw: raw["bpr"].update(tangential_min=0.2), "tangential_min, tangential_max"),
        (lambda raw: raw["bpr"].update(pixel_mm=0), "pixel_mm: 0.5 to 100"),
        (lambda raw: raw["bpr"].update(pixel_mm=1e-6), "pixel_mm: 0.5 to 100"),  # would take all memory
        (lambda raw: raw["bpr"].update(size=16), "size: 32 to 1024"),
        (lambda raw: raw["bpr"].update(low_hu=1500), "low_hu, high_hu"),
        (lambda raw: raw["bpr"].update(smoothing_mm=-1), "smoothing_mm"),
        (lambda raw: raw["bpr"].update(ratio_tolerance=1), "ratio_tolerance"),
    ],
)
def test_contradictions_are_refused_by_their_key(
    model: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    with pytest.raises(ModelError, match=rf"card\.json: .*{told}"):
        read_card(edit(model, change))


def test_a_table_may_know_fewer_landmarks(model: Path) -> None:
    def only_ends(raw: dict[str, Any]) -> None:
        raw["bpr"]["look_up"] = [row for row in raw["bpr"]["look_up"] if row["key"] in ("pelvis_start", "eyes_end")]

    card = read_card(edit(model, only_ends))
    assert card.bpr is not None
    assert [row.mean for row in card.bpr.look_up] == [0, 100]


def test_a_graph_of_other_slices_is_refused(model: Path) -> None:
    weighted(model / "model.onnx", np.ones((64, 64)), 0.0)
    edit(model, lambda raw: raw["graphs"][0].update(sha256=_sha256(model / "model.onnx")))
    with pytest.raises(ModelError, match=r"model\.onnx takes slices of 64 pixels, its card says 32"):
        verify_model(read_card(model))


@pytest.mark.parametrize(
    ("slices", "scores"),
    [
        (("image", ["N", 1, 8, 8]), ("scores", ["N", 1])),
        (("slices", ["N", 1, 8, 8]), ("logits", ["N", 1])),
        (("slices", ["N", 1, 8, 4]), ("scores", ["N", 1])),
        (("slices", ["N", 2, 8, 8]), ("scores", ["N", 1])),
        (("slices", [4, 1, 8, 8]), ("scores", [4, 1])),
        (("slices", ["N", 1, 8, 8]), ("scores", ["N"])),
    ],
)
def test_other_inputs_and_outputs_are_refused(
    tmp_path: Path, slices: tuple[str, list[Any]], scores: tuple[str, list[Any]]
) -> None:
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (slices, scores)]
    onnx.save(helper.make_model(helper.make_graph([], "odd", *ends)), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx is not a graph of a body part regression"):
        check_bpr_graph(tmp_path / "model.onnx")


def test_the_list_and_the_card_are_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--models", str(model.parent)]) == cli.EXIT_DONE
    assert "35 landmarks" in capsys.readouterr().out
    assert cli.main(["models", "show", NAME, "--models", str(model.parent)]) == cli.EXIT_DONE
    shown = capsys.readouterr().out
    for told in (
        "preprocessing: of BodyPartRegression",
        "slices of 32 x 32 pixels of 28 mm, -1000 to 1500 HU; 0.118 a mm toward the head",
        "pelvis_start 0.0 (sd 2.0), femur_end 13.6 (sd 1.2)",
        "made from model.pt, SHA-256 ab",
    ):
        assert told in shown, told
