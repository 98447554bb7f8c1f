"""BodyPartRegression's network as a graph of ours: the scores of bpreg itself, the same bytes, hostile weights refused.

Source of the tolerance: bpreg's own model and the graph differ by 1e-8 on scores near 0.02; 1e-4 is what a score can
differ without any effect on its second decimal.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.graph import check_bpr_graph
from orthanc_plugin.catalog.reader import verify_model
from orthanc_plugin.conversion import checkpoint
from orthanc_plugin.conversion.bpr_network import PUBLISHED_BACKGROUND, export_bpr
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.errors import ModelError
from tests.parity.bpr import peers
from tests.parity.bpr.public_folder import pooled, random_weights, write_public_folder

TOLERANCE = 1e-4
SMALL = ((4, 5), (6, 7), (8, 9, 8), (9, 10, 11), (12, 11, 10))
"""Channels of a small network; all differ, so that none can be taken for another."""

State = dict[str, Any]


@pytest.fixture(scope="module")
def converted(public_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return convert_model(public_folder, "bpr", tmp_path_factory.mktemp("models"))


def slices(count: int, size: int = 128) -> np.ndarray:
    """Noise between air and bone, more of it from slice to slice, one of them empty."""
    noise = np.random.default_rng(count).uniform(-1, 1, (count, 1, size, size))
    pictures = (noise * np.linspace(0, 1, count)[:, None, None, None]).astype(np.float32)
    pictures[0] = -1
    return pictures


def scores(graph: Path, pictures: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(["scores"], {"slices": pictures})
    return np.asarray(found)[:, 0]


def saved(state: object, tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "model.pt")
    return tmp_path / "model.pt"


# The same scores.


def test_bpreg_gives_the_same_scores(bpreg: peers.Peer, public_folder: Path, converted: ModelCard) -> None:
    pictures = slices(9)
    expected = bpreg.call(peers.raw_scores, public_folder, pictures[:, 0])
    found = scores(converted.directory / "model.onnx", pictures)
    assert np.ptp(expected) > 0.1, "scores that do not differ would agree by chance"
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    verify_model(converted)


def test_any_number_of_slices_gives_the_same_scores(converted: ModelCard) -> None:
    graph, pictures = converted.directory / "model.onnx", slices(5)
    alone = np.concatenate([scores(graph, pictures[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(scores(graph, pictures), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [128, 64])
def test_a_small_network_of_the_same_names_converts_too(tmp_path: Path, size: int) -> None:
    state, pictures = random_weights(3, SMALL), slices(6, size)
    noise = torch.randn(7, 10, 1, 1, generator=torch.Generator().manual_seed(4))
    state |= {"conv6.weight": noise, "conv6.bias": noise[:, 0, 0, 0], "fc7.weight": noise[None, :, 1, 0, 0]}
    export_bpr(saved(state, tmp_path), size, tmp_path / "model.onnx")
    assert check_bpr_graph(tmp_path / "model.onnx") == size
    expected = pooled(state, pictures, SMALL) @ state["fc7.weight"][0] + state["fc7.bias"]
    np.testing.assert_allclose(scores(tmp_path / "model.onnx", pictures), expected, rtol=1e-5, atol=TOLERANCE)


# The file.


def test_the_same_weights_give_the_same_bytes_and_no_path(tmp_path: Path) -> None:
    path = saved(random_weights(3, SMALL), tmp_path)
    for name in ("a.onnx", "b.onnx"):
        export_bpr(path, 128, tmp_path / name)
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    assert str(tmp_path).encode() not in content
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "a.onnx", "b.onnx"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {key: value.double() for key, value in state.items()},
        lambda state: {key: value.half() for key, value in state.items()},
    ],
)
def test_wrapped_and_other_floats_are_read(tmp_path: Path, wrap: Callable[[State], State]) -> None:
    state = random_weights(3, SMALL)
    export_bpr(saved(wrap(state), tmp_path), 64, tmp_path / "model.onnx")
    expected = pooled(state, slices(3, 64), SMALL) @ state["fc7.weight"][0] + state["fc7.bias"]
    np.testing.assert_allclose(scores(tmp_path / "model.onnx", slices(3, 64)), expected, atol=2e-2)


@pytest.mark.parametrize(("value", "score"), [(-1.0, 110.83), (-0.2, 6.22)])
def test_the_published_weights_are_known_by_their_answer_to_an_empty_slice(
    tmp_path: Path, value: float, score: float
) -> None:
    state = random_weights(3, SMALL)
    assert export_bpr(saved(state, tmp_path), 128, tmp_path / "model.onnx") == ()
    empty = np.full((1, 1, 128, 128), value, np.float32)
    state["fc7.bias"] = score - pooled(state, empty, SMALL) @ state["fc7.weight"][0]
    assert export_bpr(saved(state, tmp_path), 128, tmp_path / "model.onnx") == PUBLISHED_BACKGROUND


# Hostile weights.


class Shell:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("fc7.bias"), r"lacks 'fc7\.bias'; it does not match the layers of BodyPartRegression"),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith("model")], r"lacks 'model\.0\.weight' and 24 more"),
        (lambda s: s.update({"model.0.bias": torch.zeros(4)}), r"has 'model\.0\.bias', unknown to the layers"),
        (lambda s: s.update({"l1loss.weight": torch.zeros(4)}), r"has 'l1loss\.weight', unknown"),
        (lambda s: s.update({1: torch.zeros(4)}), "is not a state dict"),
        (lambda s: s["model.5.weight"].view(-1)[3].fill_(float("nan")), r"model\.5\.weight holds NaN"),
        (lambda s: s["conv6.bias"].fill_(float("inf")), r"conv6\.bias holds NaN or infinite"),
        (lambda s: s.update({"model.2.weight": torch.zeros(5, 4, 1, 1)}), r"model\.2\.weight has shape \(5, 4, 1, 1\)"),
        (lambda s: s.update({"fc7.weight": torch.zeros(2, 10)}), r"fc7\.weight has shape \(2, 10\)"),
        (lambda s: s.update({"fc7.weight": torch.zeros(1, 10, dtype=torch.int64)}), "is not a tensor of numbers"),
        (lambda s: s.update({"fc7.weight": [1.0]}), "is not a tensor of numbers"),
        (
            lambda s: s.update({"model.2.weight": torch.zeros(1).expand(10**6, 10**6, 3, 3)}),
            r"model\.2\.weight has 1000000 outputs",
        ),
        (lambda s: s.update({"model.2.weight": torch.zeros(0, 4, 3, 3)}), "has 0 outputs"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, change: Callable[[State], object], told: str) -> None:
    state: State = random_weights(3, SMALL)
    change(state)
    with pytest.raises(ModelError, match=rf"^model\.pt.*{told}") as error:
        export_bpr(saved(state, tmp_path), 128, tmp_path / "model.onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


def test_code_in_the_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for write in (saved, _pickled):
        path = write(random_weights(3, SMALL) | {"fc7.bias": Shell()}, tmp_path)
        with pytest.raises(ModelError, match=r"model\.pt holds (posix|os)\.system, which a checkpoint does not need"):
            export_bpr(path, 128, tmp_path / "model.onnx")
    assert not (tmp_path / "owned").exists()


def _pickled(state: object, tmp_path: Path) -> Path:
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Shell(), protocol=2))
    return tmp_path / "model.pt"


@pytest.mark.parametrize(
    ("content", "told"), [(torch.zeros(3), "holds a Tensor"), ([1, 2], "holds a list"), ({}, "lacks")]
)
def test_anything_but_a_state_dict_is_refused(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.pt.*{told}"):
        export_bpr(saved(content, tmp_path), 128, tmp_path / "model.onnx")


def test_damaged_and_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(random_weights(3, SMALL), tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.pt"):
            export_bpr(path, 128, tmp_path / "model.onnx")
    path.write_bytes(whole)
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than"):
        export_bpr(path, 128, tmp_path / "model.onnx")


def test_hostile_weights_leave_no_model(tmp_path: Path) -> None:
    folder = write_public_folder(tmp_path / "source", random_weights(3, SMALL) | {"extra": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"source: model\.pt has 'extra'"):
        convert_model(folder, "bpr", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []
