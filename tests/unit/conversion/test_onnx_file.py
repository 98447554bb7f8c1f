"""ONNX files with a card: what is refused, by which sentence, and that one self-contained graph is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from orthanc_plugin.catalog.reader import read_card, verify_model
from orthanc_plugin.cli.main import main
from orthanc_plugin.conversion.onnx_file import convert_onnx
from orthanc_plugin.errors import ConfigError, ModelError
from tests.support.cases.volume_case import card_file, installed, network

NET = network([np.ones((3, 1, 1, 1, 1))], ("d", "h", "w"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"numbers": [0, 1]}, r"volume\.numbers"),
        ({"numbers": [0, 1, 3]}, r"volume\.numbers"),
        ({"input": "image"}, "input of the graph"),
        ({"output": "ct"}, r"volume\.input"),
        ({"layout": "2d"}, "input of the graph"),
        ({"intensity": {}}, r"volume\.intensity\.scheme"),
        ({"intensity": {"scheme": "window", "low_hu": float("nan")}}, "finite"),
        ({"intensity": {"scheme": "window", "low_hu": 5.0, "high_hu": 5.0}}, "low below high"),
        ({"intensity": {"scheme": "window", "low_hu": 0.0, "high_hu": 1e-300}}, "low below high"),
        ({"intensity": {"scheme": "window", "low_hu": -1.7e308, "high_hu": 1.7e308}}, "finite numbers of"),
        ({"intensity": {"scheme": "window", "high": 1e300}}, "finite numbers of"),
        ({"values": "heatmaps", "threshold": -1e300}, r"volume\.threshold"),
        ({"intensity": {"scheme": "zscore", "mean": 1.0, "sd": 0.0}}, "sd above 0"),
        ({"spacing_mm": [0.0, 1.0, 1.0]}, r"volume\.spacing_mm"),
        ({"spacing_mm": [float("nan"), None, None]}, r"volume\.spacing_mm"),
        ({"patch_size": [16, 16]}, r"volume\.patch_size"),
        ({"patch_size": [0, 16, 16]}, r"volume\.patch_size"),
        ({"overlap": 1.0}, r"volume\.overlap"),
        ({"overlap": 0.999}, r"volume\.overlap"),
        ({"cleaning": [{"number": 1, "neighbours": 8}]}, r"volume\.cleaning\.0\.neighbours"),
        ({"threshold": float("nan")}, r"volume\.threshold"),
        ({"slices": 3}, r"volume\.slices"),
        ({"cleaning": [{"number": 9}]}, r"volume\.cleaning"),
        ({"colour": 1}, "There is no such key"),
    ],
)
def test_a_card_that_cannot_be_right_is_refused_and_nothing_stays(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        installed(tmp_path, NET, **changes)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_error_names_the_card_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        installed(tmp_path, NET, overlap=2.0)
    assert str(refused.value).startswith(str(tmp_path / "made.json"))


def test_sides_that_the_graph_fixes_belong_into_the_card(tmp_path: Path) -> None:
    fixed = network([np.ones((3, 1, 1, 1, 1))], (8, 16, 16))
    with pytest.raises(ModelError, match=r"fixed sides \(8, 16, 16\); give them as patch_size"):
        installed(tmp_path, fixed)
    installed(tmp_path, fixed, patch_size=[8, 16, 16])


def test_an_input_of_whole_numbers_is_refused_by_its_type(tmp_path: Path) -> None:
    whole = onnx.ModelProto()
    whole.CopyFrom(NET)
    whole.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT16
    whole.graph.node.insert(0, helper.make_node("Cast", ["ct"], ["float"], to=onnx.TensorProto.FLOAT))
    whole.graph.node[1].input[0] = "float"
    with pytest.raises(ModelError, match=r"input of the graph is ct int16 .*card says ct float32"):
        installed(tmp_path, whole)


def test_values_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    """Exporters did so until ONNX 1.4."""
    old = onnx.ModelProto()
    old.CopyFrom(NET)
    old.graph.input.append(helper.make_tensor_value_info("w0", onnx.TensorProto.FLOAT, [3, 1, 1, 1, 1]))
    assert len(onnx.load(installed(tmp_path, old).directory / "model.onnx").graph.input) == 1


@pytest.mark.parametrize("location", ["../values.bin", "/values.bin"])
def test_values_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    copied = onnx.ModelProto()
    copied.CopyFrom(NET)
    onnx.save_model(copied, folder / "net.onnx", save_as_external_data=True, location="values.bin", size_threshold=0)
    (folder / "values.bin").rename(tmp_path / "values.bin")
    stored = onnx.load(folder / "net.onnx", load_external_data=False)
    stored.graph.initializer[0].external_data[0].value = location
    (folder / "net.onnx").write_bytes(stored.SerializeToString())
    with pytest.raises(ModelError, match="not an ONNX file that can be used"):
        convert_onnx(folder / "net.onnx", card_file(tmp_path), "anything", tmp_path / "models")


def test_values_in_other_files_are_taken_in(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    copied = onnx.ModelProto()
    copied.CopyFrom(NET)  # saving moves its values
    onnx.save_model(copied, file, save_as_external_data=True, location="values.bin", size_threshold=0)
    assert (tmp_path / "values.bin").exists()
    card = convert_onnx(file, card_file(tmp_path), "anything", tmp_path / "models")
    (tmp_path / "values.bin").unlink()
    verify_model(card)
    assert onnx.load(card.directory / "model.onnx").graph.initializer[0].raw_data


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x08\x08"])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        convert_onnx(file, card_file(tmp_path), "anything", tmp_path / "models")


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    foreign = onnx.ModelProto()
    foreign.CopyFrom(NET)
    foreign.graph.node.insert(0, helper.make_node("Magic", ["ct"], ["spare"], domain="com.example"))
    foreign.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match="Magic"):
        installed(tmp_path, foreign)


def test_a_label_without_a_code_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no code for flux"):
        installed(tmp_path, NET, {"1": "liver", "2": "flux"})


def test_a_changed_card_is_another_model(tmp_path: Path) -> None:
    first = installed(tmp_path, NET).digest
    assert installed(tmp_path, NET, overlap=0.25).digest != first


def test_the_command_converts_and_needs_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(NET.SerializeToString())
    wanted = ["models", "convert", str(tmp_path / "net.onnx"), "--name", "anything", "--out", str(tmp_path / "models")]
    assert main(wanted) == 78
    assert "needs a card" in capsys.readouterr().err
    assert main([*wanted, "--card", str(card_file(tmp_path)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["converted"] == "anything"
    assert read_card(tmp_path / "models" / "anything").volume is not None


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    installed(tmp_path, NET)
    with pytest.raises(ConfigError, match="already exists"):
        convert_onnx(tmp_path / "net.onnx", card_file(tmp_path), "anything", tmp_path / "models")
