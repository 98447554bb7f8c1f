"""ONNX files are checked from their bytes: they are self-contained and have the agreed input and output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from orthanc_plugin.catalog.graph import GraphShape, check_graph
from orthanc_plugin.errors import ModelError

PATCH = (8, 16, 16)


def model(
    image: tuple[object, ...] = ("n", 1, *PATCH),
    logits: tuple[object, ...] = ("n", 3, *PATCH),
    names: tuple[str, str] = ("image", "logits"),
    element: int = TensorProto.FLOAT,
) -> ModelProto:
    """Make a 1x1x1 convolution from one channel to three heads."""
    node = helper.make_node("Conv", [names[0], "w"], [names[1]])
    ends = [
        helper.make_tensor_value_info(name, element, list(shape))
        for name, shape in zip(names, (image, logits), strict=True)
    ]
    weights = numpy_helper.from_array(np.ones((3, 1, 1, 1, 1), np.float32), "w")
    return helper.make_model(helper.make_graph([node], "unet", ends[:1], ends[1:], [weights]))


def written(folder: Path, proto: ModelProto) -> Path:
    path = folder / "fold_0.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_self_contained_graph_tells_its_shape(tmp_path: Path) -> None:
    assert check_graph(written(tmp_path, model())) == GraphShape(1, 3, PATCH)
    planar = model(("n", 2, 32, 64), ("n", 5, 32, 64))
    assert check_graph(written(tmp_path, planar)) == GraphShape(2, 5, (32, 64))


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_attribute(proto: ModelProto, tensor: TensorProto) -> None:
    proto.graph.node[0].attribute.append(AttributeProto(name="t", type=AttributeProto.TENSOR, t=tensor))


def in_subgraph(proto: ModelProto, tensor: TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [tensor])
    proto.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def in_sparse_values(proto: ModelProto, tensor: TensorProto) -> None:
    proto.graph.sparse_initializer.append(SparseTensorProto(values=tensor, dims=[1]))


def in_function(proto: ModelProto, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    proto.functions.append(helper.make_function("d", "f", [], ["c"], [node], []))


PLACES: list[Callable[[ModelProto, TensorProto], None]] = [
    lambda proto, tensor: proto.graph.initializer.append(tensor),
    in_attribute,
    in_subgraph,
    in_sparse_values,
    in_function,
    lambda proto, tensor: proto.training_info.add().initialization.initializer.append(tensor),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["w.bin", "../w.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_values_outside_the_file_are_refused_wherever_they_are_named(
    place: Callable[[ModelProto, TensorProto], None], location: str, tmp_path: Path
) -> None:
    proto = model()
    place(proto, outside(location))
    with pytest.raises(ModelError, match=r"fold_0\.onnx keeps values in other files"):
        check_graph(written(tmp_path, proto))


def test_external_data_without_its_flag_is_refused_too(tmp_path: Path) -> None:
    proto = model()
    proto.graph.initializer[0].external_data.add(key="location", value="w.bin")
    with pytest.raises(ModelError, match="keeps values in other files"):
        check_graph(written(tmp_path, proto))


@pytest.mark.parametrize(
    "proto",
    [
        model(names=("input", "logits")),
        model(names=("image", "output")),
        model(element=TensorProto.FLOAT16),
        model(image=(1, 1, *PATCH)),
        model(logits=("n", 3, 8, 16, 8)),
        model(image=("n", 1, "z", 16, 16)),
        model(image=("n", 1, 8), logits=("n", 3, 8)),
        model(image=("n", "c", *PATCH)),
        helper.make_model(helper.make_graph([], "empty", [], [])),
    ],
)
def test_other_inputs_and_outputs_are_refused(proto: ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fold_0\.onnx is not an nnU-Net graph"):
        check_graph(written(tmp_path, proto))


@pytest.mark.parametrize(
    "content", [b"no onnx", b"\xff" * 40, b"\x3a\x7f", b"\x38\x01", b"\x3b\x00", b"\xb8\x80\x80\x80\x10\x01"]
)
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fold_0.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"fold_0\.onnx is not an ONNX file, or is damaged"):
        check_graph(path)


def test_a_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, model())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        check_graph(path)
    with pytest.raises(ModelError, match="cannot be read"):
        check_graph(tmp_path / "none.onnx")
