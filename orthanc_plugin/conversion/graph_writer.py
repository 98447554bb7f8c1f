"""Write a torch network as one self-contained ONNX file, layer by layer, with the same bytes every time.

The network is traced with torch.fx. Each of its few kinds of layers becomes one ONNX node, and values keep their names
from the checkpoint. torch's own exporter gives the same nodes, but more slowly and with stack traces of the machine.
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, fx, nn

OPSET, IR_VERSION = 20, 9

_HALF = "image_half"


@dataclass(frozen=True, slots=True)
class End:
    """A float32 input or output of a graph; a side that has a name instead of a number is free."""

    name: str
    sides: tuple[int | str, ...]

    def info(self) -> ValueInfoProto:
        """Return ONNX's description of it."""
        return helper.make_tensor_value_info(self.name, TensorProto.FLOAT, self.sides)


def onnx_bytes(network: nn.Module, name: str, start: End, end: End, *, half: bool = False) -> bytes:
    """Write the network as a checked ONNX file; with `half`, weights and activations are float16, ends float32."""
    writer = _Writer(network, end.name, half)
    graph = helper.make_graph(writer.nodes, name, [start.info()], [end.info()], writer.values)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="orthanc-enrichment")
    written: bytes = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(written, full_check=True)
    return written


def session_of(graph: bytes) -> Any:
    """Open ONNX Runtime on the CPU with as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def write_whole(graph: bytes, out: Path) -> None:
    """Write a file in one step, so that no part of it is ever seen."""
    part = out.with_name(f"{out.name}.part")
    part.write_bytes(graph)
    os.replace(part, out)


class _Writer:
    """The ONNX nodes of a traced network; each value has the name of its node in the trace."""

    def __init__(self, network: nn.Module, end: str, half: bool) -> None:
        self.modules = dict(network.named_modules())
        self.end = end
        self.half = half
        self.nodes: list[NodeProto] = []
        self.values: list[TensorProto] = []
        for node in fx.Tracer().trace(network).nodes:
            self._write(node)

    def _write(self, node: fx.Node) -> None:
        inputs = [_HALF if source.op == "placeholder" and self.half else source.name for source in node.all_input_nodes]
        if node.op == "placeholder":
            if self.half:
                self._op("Cast", [node.name], _HALF, to=TensorProto.FLOAT16)
        elif node.op == "output":
            if self.half:
                self._op("Cast", inputs, self.end, to=TensorProto.FLOAT)
            else:
                self.nodes[-1].output[:] = [self.end]
        elif node.target is torch.cat:
            self._op("Concat", inputs, node.name, axis=1)
        elif node.target is operator.add:
            self._op("Add", inputs, node.name)
        else:
            self._layer(node.name, str(node.target), inputs)

    def _layer(self, name: str, path: str, inputs: list[str]) -> None:
        layer = self.modules[path]
        inputs = inputs + [self._value(f"{path}.{key}", value) for key, value in layer.named_parameters()]
        match layer:
            case nn.ConvTranspose2d() | nn.ConvTranspose3d():
                self._op("ConvTranspose", inputs, name, kernel_shape=layer.kernel_size, strides=layer.stride)
            case nn.Conv2d() | nn.Conv3d():
                window = {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": 2 * layer.padding}
                self._op("Conv", inputs, name, **window)
            case nn.InstanceNorm2d() | nn.InstanceNorm3d():
                self._op("InstanceNormalization", inputs, name, epsilon=layer.eps)
            case nn.AvgPool2d() | nn.AvgPool3d():
                self._op("AveragePool", inputs, name, kernel_shape=layer.kernel_size, strides=layer.stride)
            case nn.MaxPool2d(kernel_size=int(side), stride=int(step)):
                self._op("MaxPool", inputs, name, kernel_shape=[side, side], strides=[step, step])
            case nn.AdaptiveAvgPool2d(output_size=1):
                self._op("GlobalAveragePool", inputs, name)
            case nn.Flatten(start_dim=1):
                self._op("Flatten", inputs, name, axis=1)
            case nn.Linear():
                self._op("Gemm", inputs, name, transB=1)
            case nn.LeakyReLU():
                self._op("LeakyRelu", inputs, name, alpha=layer.negative_slope)
            case nn.ReLU():
                self._op("Relu", inputs, name)
            case nn.Identity():
                self._op("Identity", inputs, name)
            case _:
                raise TypeError(f"{type(layer).__name__} has no ONNX counterpart here")

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def _value(self, name: str, value: Tensor) -> str:
        array = value.detach().to(torch.float16 if self.half else torch.float32)
        self.values.append(numpy_helper.from_array(array.numpy(), name))
        return name
