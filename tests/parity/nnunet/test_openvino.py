"""OpenVINO as the provider: the labels and scores that ONNX Runtime gives, from the networks that are shipped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.engine import open_engine, open_locator
from orthanc_plugin.inference.openvino import OpenVinoSession
from orthanc_plugin.inference.providers import Provider, choose_provider, open_session
from tests.parity.nnunet.cts import Ct
from tests.parity.nnunet.head_neck import held_out, patient_ct
from tests.support.cases.realct import ROOT

MODELS = ROOT / "models"
MOST_DISAGREEMENT = 1e-4
NETWORK = MODELS / "thorax_standin" / "3d_fullres_fold_0.onnx"


def test_labels_of_a_chest_are_those_of_onnx_runtime(ct: Callable[[str], Ct]) -> None:
    check_labels("thorax_standin", ct("thorax").volume)


def test_labels_of_a_patient_are_those_of_onnx_runtime(tmp_path: Path) -> None:
    check_labels("head_neck_oar", patient_ct(held_out()[0], tmp_path, surroundings=True).volume)


def check_labels(model: str, volume: Volume) -> None:
    card = find_model(model, MODELS)
    engines = [open_engine(card, provider) for provider in (Provider.CPU, Provider.OPENVINO)]
    assert [engine.provider for engine in engines] == ["cpu", "openvino"]
    theirs, ours = (engine.segment(volume).labels for engine in engines)
    assert len(np.unique(theirs)) == len(card.labels) + 1, "a comparison of background says nothing"
    assert (ours != theirs).mean() <= MOST_DISAGREEMENT


def test_scores_are_those_of_onnx_runtime(ct: Callable[[str], Ct]) -> None:
    card, volume = find_model("bpr_standin", MODELS), ct("thorax").volume
    ours, theirs = (open_locator(card, each).locate(volume) for each in (Provider.OPENVINO, Provider.CPU))
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)  # of 100 from pelvis to head


def test_auto_takes_it_before_the_cpu_and_never_for_the_chest() -> None:
    assert choose_provider(Provider.AUTO) == (Provider.OPENVINO, Provider.CPU)
    assert open_session(NETWORK, Provider.AUTO)[1] is Provider.OPENVINO
    for wanted in (Provider.AUTO, Provider.OPENVINO):
        assert open_engine(find_model("chest_structures", None), wanted).provider == "cpu"


def test_auto_leaves_a_graph_that_it_cannot_read_to_onnx_runtime(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = helper.make_node("CDist", ["in", "in"], ["out"], domain="com.microsoft")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("in", "out")]
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=domains, ir_version=8)
    onnx.save(model, tmp_path / "own.onnx")
    with caplog.at_level(logging.WARNING):
        assert open_session(tmp_path / "own.onnx", Provider.AUTO)[1] is Provider.CPU
    assert "own.onnx cannot be loaded" in caplog.text
    with pytest.raises(ModelError, match="OpenVINO"):
        open_session(tmp_path / "own.onnx", Provider.OPENVINO)


def test_a_file_that_is_not_a_graph_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for wanted in (Provider.AUTO, Provider.OPENVINO):
        with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded"):
            open_session(tmp_path / "broken.onnx", wanted)


def test_an_input_of_another_shape_is_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"fails on input \[\(1, 1, 3, 40, 40\)\]"):
        OpenVinoSession(NETWORK, 1).run(["logits"], {"image": np.zeros((1, 1, 3, 40, 40), np.float32)})


def test_a_result_belongs_to_the_caller_and_the_same_input_gives_the_same() -> None:
    session = OpenVinoSession(NETWORK, 1)
    image = np.random.default_rng(0).standard_normal((1, 1, 40, 40, 40)).astype(np.float32)
    (first,) = session.run(["logits"], {"image": image})
    kept = first.copy()
    session.run(["logits"], {"image": -image})
    assert np.array_equal(first, kept)
    first += 1
    assert np.array_equal(session.run(["logits"], {"image": image})[0], kept)
