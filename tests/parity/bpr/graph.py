"""bpreg's network as ONNX, written straight from a state dict: the engine is tested without the converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from tests.parity.bpr.public_folder import VGG16


def write_graph(path: Path, state: dict[str, Tensor]) -> None:
    """bpreg's network as ONNX."""
    nodes, last, layer = [], "slices", 0

    def add(kind: str, name: str, *values: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *values], [name], **attributes))
        last = name

    for block in VGG16:
        for _ in block:
            values = [f"model.{layer}.{part}" for part in ("weight", "bias") if f"model.{layer}.{part}" in state]
            add("Conv", f"conv{layer}", *values, pads=[1] * 4)
            add("Relu", f"relu{layer}")
            layer += 2
        add("MaxPool", f"pool{layer}", kernel_shape=[2, 2], strides=[2, 2])
        layer += 1
    add("Conv", "conv6", "conv6.weight", "conv6.bias")
    add("Relu", "relu6")
    add("GlobalAveragePool", "mean")
    add("Flatten", "flat")
    add("Gemm", "scores", "fc7.weight", "fc7.bias", transB=1)
    slices = helper.make_tensor_value_info("slices", TensorProto.FLOAT, ["N", 1, 128, 128])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1])
    constants = [numpy_helper.from_array(value.numpy(), name) for name, value in state.items()]
    graph = helper.make_graph(nodes, "bpr", [slices], [scores], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
