"""The engine `volume` against ONNX Runtime called directly: 2D, 2.5D, 3D, patches, masks and landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from scipy.special import expit, softmax

from orthanc_plugin.catalog.reader import read_card
from orthanc_plugin.catalog.volume import Cleaning
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError, OutOfMemoryError
from orthanc_plugin.inference.engine import Probabilistic, open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.inference.volume import VolumeEngine, clean
from tests.support.cases.volume_case import installed, network

RNG = np.random.default_rng(5)
HU = np.asarray(np.round(RNG.normal(50, 120, (12, 24, 20))), np.float32)
CT = Volume(HU, (3.0, 2.0, 2.0), np.diag([2.0, 2.0, 3.0, 1.0]))


def unit(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((np.clip(hu, -200, 300) + 200) / 500, np.float32)


def direct(proto: ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["out"], {"ct": image})[0])


def kernels(*sides: int, channels: int = 1, outputs: int = 3) -> list[NDArray[np.float64]]:
    return [RNG.normal(size=(4, channels, *sides)), RNG.normal(size=(outputs, 4, *(1 for _ in sides)))]


def test_a_whole_volume_gives_the_labels_of_the_runtime(tmp_path: Path) -> None:
    proto = network(kernels(3, 3, 3), ("d", "h", "w"))
    found = open_engine(installed(tmp_path, proto), Provider.CPU).segment(CT)
    assert np.array_equal(found.labels, direct(proto, unit(HU)[None, None])[0].argmax(axis=0))
    assert [segment.number for segment in found.segments] == [n for n in (1, 2) if (found.labels == n).any()]


def test_patches_of_a_pointwise_network_are_the_whole_volume(tmp_path: Path) -> None:
    proto = network(kernels(1, 1, 1), (8, 16, 16), "Softmax")
    found = open_engine(installed(tmp_path, proto, patch_size=[8, 16, 16], values="softmax"), Provider.CPU).segment(CT)
    whole = np.empty((3, *HU.shape), np.float32)
    image = np.pad(unit(HU), ((0, 4), (0, 8), (0, 12)))
    for z in range(0, 16, 8):
        for y in range(0, 32, 16):
            for x in range(0, 32, 16):
                values = direct(proto, image[None, None, z : z + 8, y : y + 16, x : x + 16])[0]
                part = whole[:, z : z + 8, y : y + 16, x : x + 16]
                part[...] = values[:, : part.shape[1], : part.shape[2], : part.shape[3]]
    assert (found.labels == whole.argmax(axis=0)).mean() > 0.9999


def test_slices_are_seen_as_the_card_turns_them(tmp_path: Path) -> None:
    """A network that was trained on images with rows to the front and columns to the right."""
    proto = network(kernels(3, 3), ("h", "w"))
    card = installed(tmp_path, proto, layout="2d")
    raw = (card.directory / "card.json").read_text().replace('"y:P"', '"y:A"').replace('"x:L"', '"x:R"')
    (card.directory / "card.json").write_text(raw)
    found = open_engine(read_card(card.directory), Provider.CPU).segment(CT)
    turned = unit(HU)[:, ::-1, ::-1]
    expected = direct(proto, np.ascontiguousarray(turned[:, None])).argmax(axis=1)[:, ::-1, ::-1]
    assert np.array_equal(found.labels, expected)


def test_a_slab_has_its_neighbours_as_channels(tmp_path: Path) -> None:
    proto = network(kernels(3, 3, channels=3), ("h", "w"))
    found = open_engine(installed(tmp_path, proto, layout="2.5d", slices=3), Provider.CPU).segment(CT)
    image = unit(HU)
    slabs = np.stack([np.concatenate([image[:1], image[:-1]]), image, np.concatenate([image[1:], image[-1:]])], axis=1)
    assert np.array_equal(found.labels, direct(proto, slabs).argmax(axis=1))


def test_sigmoid_masks_are_painted_later_over_earlier(tmp_path: Path) -> None:
    proto = network(kernels(1, 1, 1, outputs=2), ("d", "h", "w"), "Sigmoid")
    card = installed(tmp_path, proto, values="sigmoid", numbers=[2, 1], threshold=0.6)
    found = open_engine(card, Provider.CPU).segment(CT)
    first, second = direct(proto, unit(HU)[None, None])[0] > 0.6
    assert np.array_equal(found.labels, np.where(second, 1, np.where(first, 2, 0)))


def test_zscore_and_resampling_keep_the_place(tmp_path: Path) -> None:
    """A bright block is found where it is, although the network sees voxels of twice the size."""
    hu = np.full((16, 32, 32), -100, np.float32)
    hu[4:12, 8:20, 10:26] = 400
    proto = network([np.array([-1.0, 1.0]).reshape(2, 1, 1, 1, 1)], ("d", "h", "w"))
    how = {"scheme": "zscore", "low_hu": -1000.0, "high_hu": 1000.0, "mean": 150.0, "sd": 100.0}
    card = installed(tmp_path, proto, {"1": "liver"}, numbers=[0, 1], intensity=how, spacing_mm=[4.0, 4.0, 4.0])
    found = open_engine(card, Provider.CPU).segment(Volume(hu, (2.0, 2.0, 2.0), np.diag([2.0, 2.0, 2.0, 1.0])))
    assert (found.labels.astype(bool) == (hu > 0)).mean() > 0.98


def test_a_fixed_size_is_resized_and_back(tmp_path: Path) -> None:
    hu = np.full((3, 40, 60), -100, np.float32)
    hu[:, 10:30, 20:50] = 250
    proto = network([np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)], (20, 20))
    how = {"scheme": "window", "low_hu": -200.0, "high_hu": 300.0, "low": -1.0, "high": 1.0}
    card = installed(tmp_path, proto, {"1": "liver"}, layout="2d", numbers=[0, 1], intensity=how, resize=[20, 20])
    found = open_engine(card, Provider.CPU).segment(Volume(hu, (5.0, 1.0, 1.0), np.diag([1.0, 1.0, 5.0, 1.0])))
    assert (found.labels.astype(bool) == (hu > 0)).mean() > 0.97


def test_a_heatmap_is_a_ball_at_its_peak_and_nothing_below_the_threshold(tmp_path: Path) -> None:
    hu = np.full((20, 30, 30), -200, np.float32)
    hu[9:12, 14:17, 20:23] = 300
    proto = network([np.stack([np.full((1, 3, 3, 3), 1 / 27), np.full((1, 3, 3, 3), 1 / 270)])], ("d", "h", "w"))
    card = installed(tmp_path, proto, values="heatmaps", numbers=[1, 2], radius_mm=4.0)
    found = open_engine(card, Provider.CPU).segment(Volume(hu, (2.0, 2.0, 2.0), np.diag([2.0, 2.0, 2.0, 1.0])))
    assert [segment.key for segment in found.segments] == ["liver"]
    assert np.allclose(np.argwhere(found.labels == 1).mean(axis=0), (10, 15, 21))
    assert np.ptp(np.argwhere(found.labels == 1)[:, 0]) == 4


def test_cleaning_keeps_the_largest_component(tmp_path: Path) -> None:
    hu = np.full((10, 20, 20), -200, np.float32)
    hu[2:8, 2:8, 2:8] = hu[2:4, 12:14, 12:14] = 300
    proto = network([np.array([0.0, 1.0]).reshape(2, 1, 1, 1, 1)], ("d", "h", "w"))
    rules = [{"number": 1, "largest": True}]
    how = {"scheme": "window", "low_hu": -200.0, "high_hu": 300.0, "low": -1.0, "high": 1.0}
    card = installed(tmp_path, proto, {"1": "liver"}, numbers=[0, 1], cleaning=rules, intensity=how)
    found = open_engine(card, Provider.CPU).segment(Volume(hu, (2.0, 2.0, 2.0), np.diag([2.0, 2.0, 2.0, 1.0])))
    assert (found.labels == 1).sum() == 216


@pytest.mark.parametrize("blending", ["uniform", "gaussian"])
@pytest.mark.parametrize("placing", ["fixed", "even"])
def test_shares_of_patches_add_up_to_the_whole_image(tmp_path: Path, blending: str, placing: str) -> None:
    """A network that gives its input back: wherever patches lie, the image comes out, a smaller one padded."""
    changes = {"patch_size": [16, 16, 16], "overlap": 0.3, "blending": blending, "placing": placing, "padding": "zero"}
    proto = network([np.eye(1).reshape(1, 1, 1, 1, 1)], ("d", "h", "w"))
    card = installed(tmp_path, proto, {"1": "liver"}, numbers=[1], values="sigmoid", **changes)
    outputs = VolumeEngine(card, Provider.CPU)._outputs(unit(HU))
    assert np.allclose(outputs[0], unit(HU), atol=1e-6)


def test_half_precision_at_the_ends_is_cast(tmp_path: Path) -> None:
    """Exporters of half precision also make the ends of a network half."""
    element = TensorProto.FLOAT16
    weights = np.array([0.0, 1.0, -1.0]).reshape(3, 1, 1, 1, 1)
    stored = numpy_helper.from_array(weights.astype(helper.tensor_dtype_to_np_dtype(element)), "w")
    ends = [helper.make_tensor_value_info(n, element, ["n", c, "d", "h", "w"]) for n, c in (("ct", 1), ("out", 3))]
    graph = helper.make_graph([helper.make_node("Conv", ["ct", "w"], ["out"])], "net", ends[:1], ends[1:], [stored])
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    how = {"scheme": "window", "low_hu": -200.0, "high_hu": 300.0, "low": -1.0, "high": 1.0}
    found = open_engine(installed(tmp_path, proto, intensity=how), Provider.CPU).segment(CT)
    assert np.array_equal(found.labels, np.where(HU == 50, 0, np.where(HU > 50, 1, 2)))


def test_a_grid_that_no_memory_holds_is_told_as_such(tmp_path: Path) -> None:
    card = installed(tmp_path, network(kernels(1, 1, 1), ("d", "h", "w")), spacing_mm=[0.1, 0.1, 0.1])
    ct = Volume(HU, (50.0, 50.0, 50.0), np.diag([50.0, 50.0, 50.0, 1.0]))
    with pytest.raises(OutOfMemoryError):
        open_engine(card, Provider.CPU).segment(ct)


def test_components_that_touch_at_a_corner_are_one_with_26_neighbours(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2, :2, :2] = labels[2, 2, 2] = 1
    for neighbours, left in ((6, 8), (18, 8), (26, 9)):
        cleaned = labels.copy()
        clean(cleaned, Cleaning(1, largest=True, neighbours=neighbours), 1.0)
        assert cleaned.sum() == left


def test_values_that_are_not_finite_are_an_error_of_the_model(tmp_path: Path) -> None:
    proto = network([np.full((3, 1, 1, 1, 1), np.inf)], ("d", "h", "w"))
    with pytest.raises(ModelError, match="not finite"):
        open_engine(installed(tmp_path, proto), Provider.CPU).segment(CT)


@pytest.mark.parametrize("values", ["logits", "softmax", "sigmoid", "sigmoid-logits"])
def test_probabilities_are_those_of_the_runtime_and_change_no_label(tmp_path: Path, values: str) -> None:
    end = {"softmax": "Softmax", "sigmoid": "Sigmoid"}.get(values, "")
    proto = network(kernels(3, 3, 3), ("d", "h", "w"), end)
    labels = {"1": "liver", "2": "spleen"}
    engine = open_engine(installed(tmp_path, proto, labels, values=values), Provider.CPU)
    assert isinstance(engine, Probabilistic)
    found = engine.segment_with_probabilities(CT)
    outputs = direct(proto, unit(HU)[None, None])[0]
    expected = {"logits": softmax(outputs, axis=0), "sigmoid-logits": expit(outputs)}.get(values, outputs)
    assert np.array_equal(found.labels, engine.segment(CT).labels)
    assert [one.key for one in found.probabilities] == [segment.key for segment in found.segments] != []
    for one in found.probabilities:
        assert np.abs(one.values / 255 - expected[1 if one.key == "liver" else 2]).max() < 0.003


def test_probabilities_beyond_memory_are_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.inference.probabilities.MOST_BYTES", 10)
    engine = VolumeEngine(installed(tmp_path, network(kernels(1, 1, 1), ("d", "h", "w"))), Provider.CPU)
    found = engine.segment_with_probabilities(CT)
    assert found.probabilities == ()
    assert "probabilities are not kept" in found.notes[-1]
