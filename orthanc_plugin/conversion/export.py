"""A checkpoint written as one self-contained ONNX file, the same bytes every time, and checked against torch.

The network is traced (torch.fx) and its few kinds of layers are written as ONNX nodes one to one, their
values under the names of the checkpoint. torch's own exporter gives the same nodes, but slower, and with the machine's
stack traces inside.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from orthanc_plugin.catalog.nnunet import Framework, Precision
from orthanc_plugin.conversion.network import UNet
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.conversion.weights import read_weights
from orthanc_plugin.errors import ModelError

OPSET, IR_VERSION = 20, 9
TOLERANCE = {Precision.FP32: (1e-3, 1e-4), Precision.FP16: (0.05, 5e-3)}
"""Largest difference of a logit, and largest part of voxels with another argmax, against torch in float32."""

_HALF = "image_half"
_SEED = 20


def export_graph(
    checkpoint: Path,
    framework: Framework,
    topology: Topology,
    patch_size: tuple[int, ...],
    precision: Precision,
    out: Path,
) -> None:
    """Write one fold as ONNX.

    Parameters
    ----------
    checkpoint : Path
        See `read_weights`.
    framework : Framework
        Whose checkpoint it is.
    topology : Topology
        The network that the plans describe.
    patch_size : tuple of int
        Network axes; fixed in the graph.
    precision : Precision
        Of weights and activations.
    out : Path
        The file to write: input `image` (N, C, *patch), output `logits` (N, heads, *patch), both float32, any N.
        It appears complete and checked, or not at all.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used, the patch does not fit the network, or ONNX Runtime's logits differ from
        torch's by more than `TOLERANCE`.
    """
    _refuse_odd_patch(topology, patch_size)
    network = UNet(topology)
    network.load_state_dict(read_weights(checkpoint, framework, topology), assign=True)
    graph = _Writer(network, precision).model(topology, patch_size).SerializeToString(deterministic=True)
    onnx.checker.check_model(graph, full_check=True)
    _compare(network, graph, precision, (1, topology.input_channels, *patch_size), checkpoint)
    part = out.with_name(f"{out.name}.part")
    part.write_bytes(graph)
    os.replace(part, out)


def _refuse_odd_patch(topology: Topology, patch_size: tuple[int, ...]) -> None:
    factors = tuple(int(factor) for factor in np.prod(topology.strides, axis=0))
    if len(patch_size) != topology.dimensions or any(np.mod(patch_size, factors)):
        raise ModelError(f"patch {patch_size} is no multiple of the network's strides {factors}; the plans are damaged")


class _Writer:
    """Turns a traced network into ONNX nodes; each value has the name of its node in the trace."""

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        self.trace = fx.Tracer().trace(network)
        self.modules = dict(network.named_modules())
        self.half = precision is Precision.FP16
        self.nodes: list[NodeProto] = []
        self.values: list[TensorProto] = []

    def model(self, topology: Topology, patch_size: tuple[int, ...]) -> ModelProto:
        for node in self.trace.nodes:
            self._write(node)
        image, logits = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *patch_size])
            for name, channels in (("image", topology.input_channels), ("logits", topology.heads))
        )
        graph = helper.make_graph(self.nodes, "unet", [image], [logits], self.values)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="orthanc-enrichment")

    def _write(self, node: fx.Node) -> None:
        inputs = [_HALF if source.op == "placeholder" and self.half else source.name for source in node.all_input_nodes]
        if node.op == "placeholder":
            if self.half:
                self._op("Cast", [node.name], _HALF, to=TensorProto.FLOAT16)
        elif node.op == "output":
            if self.half:
                self._op("Cast", inputs, "logits", to=TensorProto.FLOAT)
            else:
                self.nodes[-1].output[:] = ["logits"]
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
            case nn.LeakyReLU():
                self._op("LeakyRelu", inputs, name, alpha=layer.negative_slope)
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


def _compare(network: UNet, graph: bytes, precision: Precision, shape: tuple[int, ...], checkpoint: Path) -> None:
    """Logits of one patch of noise by torch and by ONNX Runtime, both on the CPU."""
    image = np.random.default_rng(_SEED).standard_normal(shape, dtype=np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": image})
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    difference = float(np.abs(logits - expected).max())
    disagreement = float((logits.argmax(1) != expected.argmax(1)).mean())
    most, part = TOLERANCE[precision]
    if not (difference <= most and disagreement <= part):
        raise ModelError(
            f"{checkpoint.name}: {precision.value} graph differs from torch by {difference:.2g} (allowed {most}), "
            f"argmax of {disagreement:.2g} (allowed {part}) of the voxels; convert with --precision fp32"
        )
