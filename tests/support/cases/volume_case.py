"""ONNX networks that are no nnU-Net, made by onnx.helper, and cards for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.conversion.onnx_file import convert_onnx

LABELS = {"1": "liver", "2": "spleen"}


def network(kernels: list[np.ndarray], sides: tuple[Any, ...], end: str = "") -> ModelProto:
    """Convolutions with ReLU between them; `end` is an operator over the channels."""
    nodes, values, at = [], [], "ct"
    for index, kernel in enumerate(kernels):
        values.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{index}"))
        pads = [side // 2 for side in kernel.shape[2:]] * 2
        nodes.append(helper.make_node("Conv", [at, f"w{index}"], [f"c{index}"], pads=pads))
        at = f"c{index}"
        if index < len(kernels) - 1:
            nodes.append(helper.make_node("Relu", [at], [f"r{index}"]))
            at = f"r{index}"
    nodes.append(helper.make_node(end or "Identity", [at], ["out"], **({"axis": 1} if end == "Softmax" else {})))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, *sides])
        for name, channels in (("ct", kernels[0].shape[1]), ("out", kernels[-1].shape[0]))
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], values)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def section(**changes: Any) -> dict[str, Any]:
    made = {
        "input": "ct",
        "output": "out",
        "layout": "3d",
        "intensity": {"scheme": "window", "low_hu": -200.0, "high_hu": 300.0},
        "values": "logits",
        "numbers": [0, 1, 2],
    }
    return made | changes


def card_file(folder: Path, labels: object = LABELS, **changes: Any) -> Path:
    path = folder / "made.json"
    path.write_text(json.dumps({"labels": labels, "volume": section(**changes)}), encoding="utf-8")
    return path


def installed(folder: Path, proto: ModelProto, labels: object = LABELS, **changes: Any) -> ModelCard:
    file = folder / "net.onnx"
    file.write_bytes(proto.SerializeToString())
    return convert_onnx(file, card_file(folder, labels, **changes), "anything", folder / "models", replace=True)
