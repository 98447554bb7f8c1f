"""A body part regression whose answer is known: a graph of one product, and a card with the published look-up table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from orthanc_plugin.catalog.bpr import BprModel, LandmarkScore
from orthanc_plugin.catalog.card import Engine, GraphFile, ModelCard
from orthanc_plugin.domain.volume import Volume

TABLE = {
    "pelvis_start": (0.000, 1.983),
    "femur_end": (13.616, 1.198),
    "L5": (25.532, 1.854),
    "pelvis_end": (28.824, 1.881),
    "L4": (29.414, 2.098),
    "L3": (33.817, 2.290),
    "kidney": (37.597, 4.116),
    "L2": (37.763, 2.335),
    "L1": (41.478, 2.276),
    "lung_start": (44.143, 4.385),
    "Th12": (44.952, 2.287),
    "Th11": (47.725, 2.503),
    "Th10": (51.069, 2.717),
    "Th9": (53.994, 2.613),
    "liver_end": (54.479, 3.986),
    "Th8": (56.856, 2.360),
    "Th7": (59.851, 2.822),
    "Th6": (63.177, 2.404),
    "Th5": (65.964, 2.118),
    "Th4": (68.499, 2.051),
    "Th3": (70.973, 2.038),
    "Th2": (73.401, 1.694),
    "lung_end": (75.389, 1.478),
    "Th1": (75.794, 1.811),
    "C7": (77.937, 1.849),
    "C6": (79.497, 1.637),
    "C5": (81.826, 1.527),
    "C4": (83.817, 1.378),
    "C3": (85.647, 1.472),
    "teeth": (86.908, 3.253),
    "C2": (87.206, 1.327),
    "C1": (89.234, 1.397),
    "nose": (92.567, 5.355),
    "eyes_end": (100.000, 3.789),
    "head_end": (107.756, 1.785),
}
"""Mean and standard deviation of transformed scores. Source: BodyPartRegression @e6c686c, docs/notebooks."""

BACKGROUND = (110.83, 6.14, 108.92, 6.22)
SLOPE = 0.118  # per mm


def bpr_model(start_raw: float = 0.0, end_raw: float = 100.0, size: int = 16, pixel_mm: float = 28.0) -> BprModel:
    """The published table and slopes, on a small picture."""
    look_up = tuple(LandmarkScore(key, mean, sd) for key, (mean, sd) in TABLE.items())
    return BprModel(
        start_raw, end_raw, look_up, SLOPE, -0.037, 0.25, BACKGROUND, source=(), pixel_mm=pixel_mm, size=size
    )


def card(directory: Path, model: BprModel | None = None) -> ModelCard:
    """A card of the only graph in a folder."""
    return ModelCard(
        directory=directory,
        schema=1,
        name="bpr",
        version="1",
        engine=Engine.BODY_PART_REGRESSION,
        digest="0" * 64,
        graphs=tuple(GraphFile(path.name, "0" * 64) for path in directory.glob("*.onnx")),
        axes=("z:S", "y:P", "x:L"),
        preprocessing={},
        labels=(),
        manufacturer="tests",
        licence="Apache-2.0",
        citation="none",
        intended_use="tests",
        limits=(),
        bpr=bpr_model() if model is None else model,
        test_model=True,
    )


def weighted(path: Path, weights: NDArray[np.floating], offset: float) -> None:
    """Write a graph whose score is the sum of weights (x, y) times picture, and an offset."""
    size = len(weights)
    nodes = [
        helper.make_node("Flatten", ["slices"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "offset"], ["scores"]),
    ]
    slices = helper.make_tensor_value_info("slices", TensorProto.FLOAT, ["N", 1, size, size])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1])
    constants = [
        numpy_helper.from_array(weights.reshape(-1, 1).astype(np.float32), "weights"),
        numpy_helper.from_array(np.array([offset], np.float32), "offset"),
    ]
    graph = helper.make_graph(nodes, "weighted", [slices], [scores], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def mean_of_picture(directory: Path, size: int = 16) -> None:
    """Write the graph of `ct`: the mean of the picture from -1 to 1 becomes a score from -25 to 125."""
    weighted(directory / "bpr.onnx", np.full((size, size), 75 / size**2), 50.0)


def ct(scores: NDArray[np.floating], spacing_mm: float = 5.0, first_z_mm: float = -300.0) -> Volume:
    """A volume to which `mean_of_picture` gives these scores: the whole slice, but for a grain, has one HU."""
    hu = (np.asarray(scores, np.float64) - 50) / 75 * 1250 + 250
    voxels = np.repeat(hu.astype(np.float32), 64 * 64).reshape(-1, 64, 64)
    voxels[:, ::8, ::8] += 5.0
    voxels[:, 4::8, 4::8] -= 5.0
    affine = np.array([[7, 0, 0, -220.5], [0, 7, 0, -220.5], [0, 0, spacing_mm, first_z_mm], [0, 0, 0, 1.0]])
    return Volume(voxels, (spacing_mm, 7.0, 7.0), affine)
