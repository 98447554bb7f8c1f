"""Write U-Nets of any size with random weights, without torch: what nnU-Net's plans describe, as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_MOST_FEATURES = 320


@dataclass(frozen=True, slots=True)
class Shape:
    """A U-Net: its patch, features of the first stage, and (pool, kernel) of each stage."""

    patch: tuple[int, int, int]
    features: int
    stages: tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]
    heads: int = 5


_ONE, _FLAT, _ALL, _CUBE = (1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 3, 3)
SEGTHOR = Shape((64, 192, 160), 32, ((_ONE, (1, 3, 3)), (_FLAT, _CUBE), *((_ALL, _CUBE),) * 4))
"""31 million parameters."""
TINY = Shape((16, 32, 32), 4, ((_ONE, (1, 3, 3)), (_FLAT, _CUBE), (_ALL, _CUBE)))


class _Writer:
    def __init__(self, kind: type) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._kind, self._random = kind, np.random.default_rng(20)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, *shape: int, spread: float, mean: float = 0.0) -> str:
        name = f"w{len(self.weights)}"
        values = self._random.normal(mean, spread, shape).astype(self._kind)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolve(self, values: str, old: int, new: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> str:
        """Convolution, instance norm and leaky ReLU."""
        spread = float(np.sqrt(2 / (old * np.prod(kernel))))
        weights = self.weight(new, old, *kernel, spread=spread)
        pads = [n // 2 for n in kernel] * 2
        values = self.add("Conv", values, weights, kernel_shape=kernel, strides=stride, pads=pads)
        scale, offset = self.weight(new, spread=0.1, mean=1.0), self.weight(new, spread=0.1)
        return self.add("LeakyRelu", self.add("InstanceNormalization", values, scale, offset, epsilon=1e-5), alpha=0.01)

    def block(self, values: str, old: int, new: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> str:
        return self.convolve(self.convolve(values, old, new, kernel, stride), new, new, kernel, _ONE)


def write(shape: Shape, path: Path, *, half: bool = False) -> None:
    """Write the network: `image` (N, 1, *patch) to `logits` (N, heads, *patch), both float32.

    Parameters
    ----------
    shape : Shape
        Its size.
    path : Path
        The ONNX file.
    half : bool
        Whether weights and activations are float16.
    """
    make = _Writer(np.float16 if half else np.float32)
    values = make.add("Cast", "image", to=TensorProto.FLOAT16 if half else TensorProto.FLOAT)
    features = [min(_MOST_FEATURES, shape.features * 2**stage) for stage in range(len(shape.stages))]
    skips, old = [], 1
    for new, (pool, kernel) in zip(features, shape.stages, strict=True):
        values, old = make.block(values, old, new, kernel, pool), new
        skips.append(values)
    for stage in range(len(shape.stages) - 2, -1, -1):
        pool, kernel, new = shape.stages[stage + 1][0], shape.stages[stage][1], features[stage]
        weights = make.weight(old, new, *pool, spread=float(np.sqrt(1 / old)))
        up = make.add("ConvTranspose", values, weights, kernel_shape=pool, strides=pool)
        values, old = make.block(make.add("Concat", up, skips[stage], axis=1), 2 * new, new, kernel, _ONE), new
    last = make.weight(shape.heads, old, 1, 1, 1, spread=float(np.sqrt(1 / old)))
    logits = make.add("Cast", make.add("Conv", values, last), to=TensorProto.FLOAT)
    make.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, *shape.patch])
        for name, channels in (("image", 1), ("logits", shape.heads))
    ]
    graph = helper.make_graph(make.nodes, "unet", ends[:1], ends[1:], make.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
