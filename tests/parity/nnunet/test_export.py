"""Exported graphs compared with torch: fp32 and fp16, any batch, the same bytes each time, no paths of the machine."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from orthanc_plugin.catalog.graph import GraphShape, check_graph
from orthanc_plugin.catalog.nnunet import Framework, Precision
from orthanc_plugin.conversion.export import export_graph
from orthanc_plugin.conversion.topology import NetworkClass
from orthanc_plugin.errors import ModelError
from tests.parity.nnunet.small_networks import PATCH, peer, save, topology

V1, V2 = Framework.V1, Framework.V2
CASES = [
    (V1, NetworkClass.PLAIN, 2),
    (V1, NetworkClass.PLAIN, 3),
    (V2, NetworkClass.PLAIN, 3),
    (V2, NetworkClass.RESIDUAL, 2),
    (V2, NetworkClass.RESIDUAL, 3),
]


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(("framework", "network", "dimensions"), CASES)
def test_graph_gives_the_original_networks_logits(
    framework: Framework, network: NetworkClass, dimensions: int, precision: Precision, tmp_path: Path
) -> None:
    shape = topology(framework, dimensions, network)
    original, patch = peer(framework, shape), PATCH[dimensions]
    export_graph(save(original, framework, tmp_path), framework, shape, patch, precision, tmp_path / "fold_0.onnx")
    assert check_graph(tmp_path / "fold_0.onnx") == GraphShape(2, 3, patch)
    session = onnxruntime.InferenceSession(tmp_path / "fold_0.onnx", providers=["CPUExecutionProvider"])
    most, part = {Precision.FP32: (1e-3, 1e-4), Precision.FP16: (0.05, 5e-3)}[precision]
    for batch in (1, 3):
        image = np.random.default_rng(batch).standard_normal((batch, 2, *patch), dtype=np.float32)
        (logits,) = session.run(["logits"], {"image": image})
        with torch.inference_mode():
            expected = original(torch.from_numpy(image)).numpy()
        assert logits.shape == expected.shape
        assert logits.dtype == np.float32
        assert np.abs(logits - expected).max() <= most
        assert (logits.argmax(1) != expected.argmax(1)).mean() <= part


def test_graph_has_its_number_format_and_no_paths_of_the_machine(tmp_path: Path) -> None:
    shape = topology(V2, 3)
    checkpoint = save(peer(V2, shape), V2, tmp_path)
    for precision, kind in ((Precision.FP32, onnx.TensorProto.FLOAT), (Precision.FP16, onnx.TensorProto.FLOAT16)):
        out = tmp_path / f"{precision.value}.onnx"
        export_graph(checkpoint, V2, shape, PATCH[3], precision, out)
        model = onnx.load(out)
        assert {value.data_type for value in model.graph.initializer} == {kind}
        assert not re.search(rb"/(home|root|tmp|usr|work|var)|site-packages|\.py\b", out.read_bytes())
        assert model.opset_import[0].version == 20
        assert {node.op_type for node in model.graph.node} - {"Cast"} == {
            "Conv", "ConvTranspose", "InstanceNormalization", "LeakyRelu", "Concat",
        }  # fmt: skip


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    shape = topology(V2, 2, NetworkClass.RESIDUAL)
    checkpoint = save(peer(V2, shape), V2, tmp_path)
    outs = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for out in outs:
        export_graph(checkpoint, V2, shape, PATCH[2], Precision.FP32, out)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_a_graph_that_differs_from_torch_is_not_written(tmp_path: Path) -> None:
    """Weights beyond half precision: fp16 logits are infinite, and the message says what to do."""
    shape = topology(V2, 2)
    network = peer(V2, shape)
    network.decoder.seg_layers[-1].weight.data.mul_(1e6)
    checkpoint = save(network, V2, tmp_path)
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth: fp16 .*--precision fp32"):
        export_graph(checkpoint, V2, shape, PATCH[2], Precision.FP16, tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_final.pth"]


@pytest.mark.parametrize("patch", [(8, 32, 15), (32, 16), (8, 32, 16, 16)])
def test_a_patch_that_does_not_fit_the_strides_is_refused(patch: tuple[int, ...], tmp_path: Path) -> None:
    shape = topology(V2, 3)
    with pytest.raises(ModelError, match="is not a multiple of the network's strides"):
        export_graph(save(peer(V2, shape), V2, tmp_path), V2, shape, patch, Precision.FP32, tmp_path / "out.onnx")
