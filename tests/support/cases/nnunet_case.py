"""Small nnU-Nets whose answers are known: graphs of one convolution, and cards for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from orthanc_plugin.catalog.card import CardLabel, Engine, GraphFile, ModelCard
from orthanc_plugin.catalog.nnunet import (
    Configuration,
    Frame,
    Framework,
    NnunetModel,
    Normalisation,
    Part,
    Precision,
    Resampling,
    Scheme,
)
from orthanc_plugin.codes import Code

_ORGAN = Code("39801007", "SCT", "Organ")

CONFIGURATION = Configuration(
    name="3d_fullres",
    framework=Framework.V2,
    graphs=("fold_0.onnx",),
    transpose_forward=(0, 1, 2),
    transpose_backward=(0, 1, 2),
    spacing_mm=(2.0, 2.0, 2.0),
    patch_size=(8, 16, 16),
    normalisation=Normalisation(Scheme.CT, -1000.0, 1000.0, 0.0, 1000.0),
    data_resampling=Resampling(1),
    output_resampling=Resampling(1),
    mirror_axes=(),
    tile_step=0.5,
    heads=3,
)
"""v2, 2 mm, 3 heads; one unit of the network is 1000 HU."""


def convolution(path: Path, weights: NDArray[np.float32], bias: Sequence[float], patch: Sequence[int]) -> None:
    """Write a graph `image` to `logits` of one convolution; weights: (heads, channels, *kernel), odd kernels."""
    heads, channels, *kernel = weights.shape
    node = helper.make_node("Conv", ["image", "weights", "bias"], ["logits"], pads=[size // 2 for size in kernel] * 2)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels, *patch])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", heads, *patch])
    constants = [
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
        numpy_helper.from_array(np.asarray(bias, np.float32), "bias"),
    ]
    graph = helper.make_graph([node], "convolution", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def thresholds(path: Path, patch: Sequence[int], slopes: Sequence[float], offsets: Sequence[float]) -> None:
    """Write a graph whose head h gives slopes[h] * image + offsets[h], voxel by voxel."""
    weights = np.asarray(slopes, np.float32).reshape(-1, 1, *(1 for _ in patch))
    convolution(path, weights, offsets, patch)


def card(
    directory: Path, *parts: Part, frame: Frame | None = None, axes: Sequence[str] = ("z:S", "y:P", "x:L")
) -> ModelCard:
    """A card of these parts with a label for each of their numbers."""
    numbers = sorted({number for part in parts for number in part.numbers} - {0})
    labels = tuple(
        CardLabel(number, f"organ_{number}", f"Organ {number}", _ORGAN, _ORGAN, None, (255, 0, 0), (number,), True)
        for number in numbers
    )
    z, y, x = axes
    return ModelCard(
        directory=directory,
        schema=1,
        name="case",
        version="1",
        engine=Engine.NNUNET,
        digest="0" * 64,
        graphs=tuple(GraphFile(path.name, "0" * 64) for path in sorted(directory.glob("*.onnx"))),
        axes=(z, y, x),
        preprocessing={},
        labels=labels,
        manufacturer="tests",
        licence="Apache-2.0",
        citation="none",
        intended_use="tests",
        limits=(),
        nnunet=NnunetModel(parts, Precision.FP32, (), frame),
        test_model=True,
    )


def planar(configuration: Configuration) -> Configuration:
    """The 2d sibling of a configuration."""
    patch, (_, y, x) = configuration.patch_size[1:], configuration.spacing_mm
    return replace(configuration, name="2d", patch_size=patch, spacing_mm=(None, y, x))
