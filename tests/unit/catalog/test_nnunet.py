"""Cards of converted nnU-Nets: contradictions are refused by key, changed or foreign graphs by file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.catalog.shelf import find_model, list_models
from orthanc_plugin.cli import main as cli
from orthanc_plugin.errors import ModelError

NAME = "small"
STRUCTURE = {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"}
CONFIGURATION = {
    "name": "3d_fullres",
    "framework": "nnunet-v2",
    "graphs": ["fold_0.onnx"],
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "spacing_mm": [2.5, 1.0, 1.0],
    "patch_size": [8, 16, 16],
    "normalisation": {"scheme": "ct", "low_hu": -900.0, "high_hu": 900.0, "mean_hu": 20.0, "sd_hu": 200.0},
    "data_resampling": {"order": 3},
    "output_resampling": {"order": 1},
    "mirror_axes": [0, 1, 2],
    "tile_step": 0.5,
    "heads": 3,
}


def label(number: int, key: str, code: str) -> dict[str, Any]:
    kind = {"scheme": "SCT", "value": code, "meaning": key}
    shown = {"label": key, "colour": [number, 0, 0], "covers": [number], "shape_features": True}
    return {"number": number, "key": key, "category": STRUCTURE, "type": kind, **shown}


def write_graph(path: Path, channels: int = 1, heads: int = 3) -> str:
    """A graph of the right ends that copies its input; returns its SHA-256."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", sides, 8, 16, 16])
        for name, sides in (("image", channels), ("logits", heads))
    ]
    node = helper.make_node("Concat", ["image"] * heads, ["logits"], axis=1)
    graph = helper.make_graph([node], "copy", ends[:1], ends[1:])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cascade(raw: dict[str, Any]) -> None:
    """Make the model a cascade whose first stage has the graph low.onnx."""
    low = deepcopy(CONFIGURATION) | {"name": "3d_lowres", "graphs": ["low.onnx"]}
    last = raw["nnunet"]["parts"][0]["configurations"][0]
    last["previous"] = {"part": {"configurations": [low], "numbers": [0, 1, 2]}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Folder of a small model; its card as json in it."""
    folder = tmp_path / NAME
    folder.mkdir()
    digest = write_graph(folder / "fold_0.onnx")
    card = {
        "schema": 1,
        "name": NAME,
        "version": "1",
        "engine": "nnunet",
        "graphs": [{"file": "fold_0.onnx", "sha256": digest}],
        "axes": ["z:S", "y:P", "x:L"],
        "preprocessing": {},
        "labels": [label(1, "heart", "80891009"), label(2, "aorta", "15825003")],
        "manufacturer": "test",
        "licence": "CC0-1.0",
        "citation": "none",
        "intended_use": "tests",
        "limits": [],
        "nnunet": {
            "parts": [{"configurations": [deepcopy(CONFIGURATION)], "numbers": [0, 1, 2]}],
            "precision": "fp32",
            "source": [],
        },
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = model / "card.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return model


def part(raw: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = raw["nnunet"]["parts"][0]
    return first


def configuration(raw: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = part(raw)["configurations"][0]
    return first


def test_a_card_of_an_nnunet_is_read_and_verified(model: Path) -> None:
    card = read_card(model)
    assert card.engine is Engine.NNUNET
    assert card.nnunet is not None
    read = card.nnunet.parts[0].configurations[0]
    assert (read.framework, read.patch_size, read.planar) == (Framework.V2, (8, 16, 16), False)
    assert not card.test_model
    verify_model(card)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.pop("nnunet"), "nnunet: engine nnunet needs"),
        (lambda raw: raw.update(engine="classical-chest"), "other engines must not"),
        (lambda raw: raw.update(axes=["z:S", "z:P", "x:L"]), "axes"),
        (lambda raw: raw.update(axes=["z:S", "y:I", "x:L"]), "axes"),
        (lambda raw: raw["graphs"].append(raw["graphs"][0]), "graphs: a file is named twice"),
        (lambda raw: configuration(raw).update(graphs=["other.onnx"]), "nnunet: its graphs are other.onnx"),
        (lambda raw: configuration(raw).update(graphs=["fold_0.onnx", "fold_0.onnx"]), "once"),
        (lambda raw: part(raw).update(numbers=[0, 1, 7]), r"numbers are \[1, 7\]"),
        (lambda raw: part(raw).update(numbers=[0, 1, 1]), "nnunet"),
        (lambda raw: part(raw).update(numbers=[0, 1]), "nnunet"),
        (lambda raw: part(raw).update(numbers=[1, 0, 2]), "first number"),
        (lambda raw: part(raw).update(postprocessing=[{"numbers": [3]}]), r"postprocessing names \[3\]"),
        (lambda raw: part(raw).update(surprise=1), "surprise"),
        (
            lambda raw: raw["nnunet"]["parts"].append({"configurations": [], "numbers": [0, 1]}),
            r"parts\.1.*configurations",
        ),
        (lambda raw: raw["labels"][1].update(label=raw["labels"][0]["label"]), "keys and labels differ"),
        (lambda raw: raw["labels"][0].update(label=raw["labels"][1]["label"] + " "), "outer spaces"),
        (lambda raw: raw["labels"][0].update(label="Left\\right"), "backslashes"),
        (lambda raw: raw["labels"][0].update(label="Left\nlung"), "printable"),
        (lambda raw: raw["labels"][0].update(key="stomach_remainder"), "_remainder"),
        (lambda raw: configuration(raw).update(heads=4), "heads is 4"),
        (lambda raw: configuration(raw).update(transpose_forward=[1, 2, 0]), "undo each other"),
        (lambda raw: configuration(raw).update(transpose_forward=[0, 0, 2]), "permutations"),
        (lambda raw: configuration(raw).update(patch_size=[8]), "patch_size"),
        (lambda raw: configuration(raw).update(patch_size=[8, 8]), "spacing_mm"),
        (lambda raw: configuration(raw).update(spacing_mm=[None, 1, 1]), "spacing_mm"),
        (lambda raw: configuration(raw).update(spacing_mm=[1, 0, 1]), "spacing_mm"),
        (lambda raw: configuration(raw).update(mirror_axes=[3]), "mirror_axes"),
        (lambda raw: configuration(raw).update(tile_step=0), "tile_step"),
        (lambda raw: configuration(raw)["normalisation"].update(sd_hu=0), "sd_hu above 0"),
        (lambda raw: configuration(raw)["data_resampling"].update(order=6), "data_resampling"),
        (lambda raw: raw["nnunet"].update(frame={"spacing_mm": -1}), "nnunet.frame.spacing_mm"),
    ],
)
def test_contradictions_are_refused_by_their_key(
    model: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    with pytest.raises(ModelError, match=rf"card\.json: .*{told}"):
        read_card(edit(model, change))


@pytest.mark.parametrize("text", ["{", "[" * 200_000, '{"schema": ' + "1" * 5000 + "}", "\udcff"])
def test_a_card_that_is_not_valid_json_is_named(model: Path, text: str) -> None:
    (model / "card.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=r"card\.json cannot be read"):
        read_card(model)


def test_a_name_cannot_lead_to_another_folder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelError, match=r"no model '\.\./small'"):
        find_model(f"../{model.name}", tmp_path / "models")


def test_a_cascade_takes_the_labels_of_its_first_stage_as_channels(model: Path) -> None:
    digests = {
        "fold_0.onnx": write_graph(model / "fold_0.onnx", channels=3),
        "low.onnx": write_graph(model / "low.onnx"),
    }
    edit(model, cascade)
    edit(model, lambda raw: raw.update(graphs=[{"file": f, "sha256": d} for f, d in digests.items()]))
    verify_model(read_card(model))


def test_a_graph_that_does_not_fit_its_card_is_refused(model: Path) -> None:
    digest = write_graph(model / "fold_0.onnx", heads=5)
    edit(model, lambda raw: raw["graphs"][0].update(sha256=digest))
    with pytest.raises(ModelError, match=r"fold_0\.onnx is .*heads=5.*its card says .*heads=3"):
        verify_model(read_card(model))


def test_reading_a_card_does_not_read_its_graphs(model: Path) -> None:
    before = read_card(model).digest
    (model / "fold_0.onnx").write_bytes(b"altered")
    assert read_card(model).digest == before
    with pytest.raises(ModelError, match=r"fold_0\.onnx.*SHA-256"):
        verify_model(read_card(model))


def test_an_installation_in_progress_is_not_listed(model: Path) -> None:
    hidden = model.with_name(".small-in-progress")
    model.rename(hidden)
    assert NAME not in {card.name for card in list_models(hidden.parent)}


def test_lists_mark_test_models(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(model, lambda raw: raw.update(test_model=True))
    assert cli.main(["models", "list", "--models", str(model.parent)]) == cli.EXIT_DONE
    assert "small (test model)" in capsys.readouterr().out
    assert cli.main(["models", "list", "--models", str(model.parent), "--json"]) == cli.EXIT_DONE
    listed = {card["name"]: card["test_model"] for card in json.loads(capsys.readouterr().out)}
    assert listed == {
        NAME: True,
        "chest_structures": False,
        "head_neck_oar": False,
        "bpr_standin": True,
        "thorax_standin": True,
    }


def test_a_card_is_shown_with_its_networks_and_sources(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(model, cascade)
    digests = {"fold_0.onnx": "1" * 64, "low.onnx": write_graph(model / "low.onnx")}
    edit(model, lambda raw: raw.update(graphs=[{"file": f, "sha256": d} for f, d in digests.items()], test_model=True))
    edit(model, lambda raw: raw["nnunet"].update(source=[{"file": "a.pth", "sha256": "ab"}], frame={"spacing_mm": 1.5}))
    assert cli.main(["models", "show", NAME, "--models", str(model.parent)]) == cli.EXIT_DONE
    shown = capsys.readouterr().out
    for told in (
        "test model: yes: rules do not run it on patients",
        "licence: CC0-1.0",
        "all on a grid of 1.5 mm",
        "3d_fullres of nnunet-v2, 2.5 x 1 x 1 mm, patch 8x16x16, step 0.5, mirrored on 3 axes",
        "1 fold(s), 3 outputs, fp32",
        "previous.part.configurations.0: 3d_lowres",
        "SCT 15825003 aorta",
        "made from a.pth, SHA-256 ab",
    ):
        assert told in shown, told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config", "orthanc.json"], "give an orthanc.json by --settings"),
        (["--folds", "0,x"], "all, or numbers"),
        (["--axes", "z:S"], "three axes"),
        (["--precision", "fp8"], "invalid choice"),
    ],
)
def test_wrong_options_of_a_conversion_are_refused_by_name(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["models", "convert", "x.zip", "--name", NAME, *words])
    assert exit_.value.code == cli.EXIT_USAGE
    assert told in capsys.readouterr().err


def test_a_conversion_that_cannot_start_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["models", "convert", str(tmp_path / "missing.zip"), "--name", NAME, "--out", str(tmp_path / "models")]
    assert cli.main([*words, "--json"]) in (cli.EXIT_FAILED, cli.EXIT_CONFIG)
    assert json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "models" / NAME).exists()


def test_a_first_stage_may_also_be_averaged_with_its_cascade(model: Path) -> None:
    def ensemble(raw: dict[str, Any]) -> None:
        cascade(raw)
        low = configuration(raw)["previous"]["part"]["configurations"][0]
        part(raw)["configurations"].append(deepcopy(low))
        raw["graphs"].append({"file": "low.onnx", "sha256": write_graph(model / "low.onnx")})
        raw["graphs"][0]["sha256"] = write_graph(model / "fold_0.onnx", channels=3)

    verify_model(read_card(edit(model, ensemble)))
