"""The sliding window against a plain one that holds the whole volume."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage
from scipy.special import expit, softmax

from orthanc_plugin.catalog.nnunet import Configuration, Framework
from orthanc_plugin.errors import ModelError, TransientError
from orthanc_plugin.inference.nnunet import window
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.tiles import mirrorings, padding, tile_starts
from orthanc_plugin.inference.nnunet.window import predict
from orthanc_plugin.inference.providers import Provider
from tests.support.cases import nnunet_case
from tests.support.cases.nnunet_case import CONFIGURATION

Field = NDArray[np.float32]
KERNEL = np.random.default_rng(7).normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
BIAS = (0.5, -0.5, 0.0)


def network(
    directory: Path, configuration: Configuration, kernel: Field = KERNEL, name: str = "fold_0.onnx"
) -> Network:
    nnunet_case.convolution(directory / name, kernel, BIAS, configuration.patch_size)
    return Network(directory / name, configuration, 1, Provider.CPU)


def collected(data: Field, configuration: Configuration, networks: list[Network], *, regions: bool = False) -> Field:
    """All slabs, put together; they follow each other without gaps."""
    parts: list[Field] = []
    for slab in predict(data, configuration, networks, regions=regions, threads=2):
        assert slab.start == sum(part.shape[1] for part in parts)
        parts.append(slab.values.astype(np.float32))
    return np.concatenate(parts, axis=1)


def plain(data: Field, configuration: Configuration, *, regions: bool = False) -> Field:
    """The same by the textbook: every tile and mirrored copy into sums over the whole (padded) volume."""
    patch = configuration.patch_size
    pads = [padding(size, length) for size, length in zip(data.shape[1:], patch, strict=True)]
    image = np.pad(data[0], pads)
    starts = [tile_starts(size, length, 0.5) for size, length in zip(image.shape, patch, strict=True)]
    delta = np.zeros(patch)
    delta[tuple(length // 2 for length in patch)] = 1
    weight = ndimage.gaussian_filter(delta, [length / 8 for length in patch], mode="constant")
    total, weights = np.zeros((3, *image.shape)), np.zeros(image.shape)
    copies = mirrorings(configuration.mirror_axes)
    for corner in product(*starts):
        span = tuple(slice(start, start + length) for start, length in zip(corner, patch, strict=True))
        for axes in copies:
            logits = [
                np.flip(ndimage.correlate(np.flip(image[span], axes), kernel[0], mode="constant") + bias, axes)
                for kernel, bias in zip(KERNEL.astype(float), BIAS, strict=True)
            ]
            values = np.stack(logits)
            if configuration.framework is Framework.V1:
                values = expit(values) if regions else softmax(values, axis=0)
            total[:, *span] += values / len(copies) * weight
        weights[span] += weight
    inner = tuple(slice(before, size - after) for (before, after), size in zip(pads, image.shape, strict=True))
    return np.asarray((total / weights)[:, *inner], np.float32)


def noise(*shape: int) -> Field:
    return np.random.default_rng(3).normal(size=(1, *shape)).astype(np.float32)


@pytest.mark.parametrize("framework", Framework)
@pytest.mark.parametrize("shape", [(19, 30, 35), (8, 16, 16), (5, 16, 40), (20, 9, 11)])
def test_slabs_hold_what_the_whole_volume_would(tmp_path: Path, framework: Framework, shape: tuple[int, ...]) -> None:
    configuration = replace(CONFIGURATION, framework=framework, mirror_axes=(0, 2))
    data = noise(*shape)
    values = collected(data, configuration, [network(tmp_path, configuration)])
    np.testing.assert_allclose(values, plain(data, configuration), atol=2e-5)


def test_regions_of_v1_are_averaged_as_probabilities(tmp_path: Path) -> None:
    configuration = replace(CONFIGURATION, framework=Framework.V1, mirror_axes=(1,))
    data = noise(10, 20, 20)
    values = collected(data, configuration, [network(tmp_path, configuration)], regions=True)
    np.testing.assert_allclose(values, plain(data, configuration, regions=True), atol=2e-5)


def test_folds_are_averaged(tmp_path: Path) -> None:
    data = noise(10, 20, 20)
    once, twice = network(tmp_path, CONFIGURATION), network(tmp_path, CONFIGURATION, 3 * KERNEL, "fold_1.onnx")
    both = collected(data, CONFIGURATION, [once, twice])
    each = [collected(data, CONFIGURATION, [fold]) for fold in (once, twice)]
    np.testing.assert_allclose(both, (each[0] + each[1]) / 2, atol=2e-5)


def test_a_planar_network_sees_each_slice_alone(tmp_path: Path) -> None:
    configuration = replace(nnunet_case.planar(CONFIGURATION), mirror_axes=(0, 1))
    flat = network(tmp_path, configuration, KERNEL[:, :, 1])
    data = noise(7, 20, 13)
    values = collected(data, configuration, [flat])
    for z in range(7):
        (alone,) = collected(data[:, z : z + 1], configuration, [flat]).swapaxes(0, 1)
        np.testing.assert_allclose(values[:, z], alone, atol=1e-6)


def test_fewer_slices_at_once_change_only_the_rounding(tmp_path: Path) -> None:
    configuration = nnunet_case.planar(CONFIGURATION)
    nnunet_case.convolution(tmp_path / "2d.onnx", KERNEL[:, :, 1], BIAS, configuration.patch_size)
    networks = [Network(tmp_path / "2d.onnx", configuration, 1, Provider.CPU)]
    data = noise(9, 20, 20)
    four = np.concatenate([slab.values.copy() for slab in predict(data, configuration, networks)], axis=1)
    one = [slab.values.copy() for slab in predict(data, configuration, networks, slices_at_once=1)]
    assert len(one) == 9
    np.testing.assert_allclose(np.concatenate(one, axis=1), four, atol=1e-6)


def test_a_slab_that_is_too_large_is_held_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(19, 30, 35)
    net = network(tmp_path, CONFIGURATION)
    exact = collected(data, CONFIGURATION, [net])
    monkeypatch.setattr(window, "_FLOAT32_BYTES", 1000)
    slab = next(iter(predict(data, CONFIGURATION, [net])))
    assert slab.values.dtype == np.float16
    np.testing.assert_allclose(collected(data, CONFIGURATION, [net]), exact, atol=0.05)


def test_the_input_is_left_as_it_was(tmp_path: Path) -> None:
    data = noise(10, 20, 20)
    before = data.copy()
    collected(data, CONFIGURATION, [network(tmp_path, CONFIGURATION)])
    np.testing.assert_array_equal(data, before)


def test_a_graph_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "fold_0.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"fold_0\.onnx cannot be loaded"):
        Network(tmp_path / "fold_0.onnx", CONFIGURATION, 1, Provider.CPU)


def failing(path: Path, nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> Network:
    """A graph that loads, and fails when it runs."""
    patch = CONFIGURATION.patch_size
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, *patch]) for name in ("image", "logits")]
    graph = helper.make_graph(nodes, "failing", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return Network(path, replace(CONFIGURATION, heads=1), 1, Provider.CPU)


def test_a_graph_that_fails_is_a_model_error(tmp_path: Path) -> None:
    nowhere = numpy_helper.from_array(np.array([5], np.int64), "nowhere")
    net = failing(tmp_path / "a.onnx", [helper.make_node("Gather", ["image", "nowhere"], ["logits"], axis=1)], nowhere)
    with pytest.raises(ModelError, match=r"a\.onnx fails on cpu"):
        net.run(noise(8, 16, 16)[None])


def test_too_little_memory_is_tried_again(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([2**42, 1, 1, 1, 1], np.int64), "shape")
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["one"], keepdims=1),
        helper.make_node("Expand", ["one", "shape"], ["vast"]),
        helper.make_node("ReduceMax", ["vast"], ["small"], keepdims=1),
        helper.make_node("Add", ["image", "small"], ["logits"]),
    ]
    with pytest.raises(TransientError, match=r"b\.onnx: out of memory"):
        failing(tmp_path / "b.onnx", nodes, shape).run(noise(8, 16, 16)[None])
