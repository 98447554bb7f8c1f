"""Our one network class and checkpoint reader against the networks of nnU-Net v1 and v2, and hostile checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion import checkpoint
from orthanc_plugin.conversion.network import UNet
from orthanc_plugin.conversion.topology import NetworkClass
from orthanc_plugin.conversion.weights import CheckpointHeader, read_header, read_weights
from orthanc_plugin.errors import ModelError
from tests.parity.nnunet.small_networks import PATCH, peer, save, topology

V1, V2 = Framework.V1, Framework.V2
HEADER = {"trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"}}
ARCHITECTURES = [
    pytest.param(framework, network, dimensions, id=f"{framework.value}-{network.value}-{dimensions}d")
    for framework, network in ((V1, NetworkClass.PLAIN), (V2, NetworkClass.PLAIN), (V2, NetworkClass.RESIDUAL))
    for dimensions in (2, 3)
]


@pytest.mark.parametrize(("framework", "network", "dimensions"), ARCHITECTURES)
def test_logits_equal_the_original_networks(
    framework: Framework, network: NetworkClass, dimensions: int, tmp_path: Path
) -> None:
    shape = topology(framework, dimensions, network)
    original = peer(framework, shape)
    ours = UNet(shape)
    ours.load_state_dict(read_weights(save(original, framework, tmp_path), framework, shape), assign=True)
    image = torch.randn(2, 2, *PATCH[dimensions], generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        expected = original(image)
        difference = (ours(image) - expected).abs().max()
    assert expected.shape == (2, 3, *PATCH[dimensions])
    assert expected.std() > 0.1
    assert difference <= 1e-5


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_both_file_formats_and_wrappers_are_read(prefix: str, zipped: bool, tmp_path: Path) -> None:
    shape = topology(V1, 3)
    original = peer(V1, shape)

    def wrap(state: dict[str, Tensor]) -> None:
        for key in list(state):
            state[prefix + key] = state.pop(key)

    found = read_weights(save(original, V1, tmp_path, wrap, zipped=zipped), V1, shape)
    assert torch.equal(found["decoder.transpconvs.0.weight"], original.state_dict()["tu.0.weight"])
    assert list(found) == list(UNet(shape).state_dict())


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    shape = topology(V2, 2)
    found = read_weights(save(peer(V2, shape).half(), V2, tmp_path), V2, shape)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def first(state: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> None:
    key = "encoder.stages.1.0.convs.0.conv.weight"
    state[key] = change(state[key].clone())


def with_nan(tensor: Tensor) -> Tensor:
    tensor.view(-1)[7] = float("nan")
    return tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.transpconvs.1.bias"), r"lacks 'decoder\.transpconvs\.1\.bias'"),
        (lambda s: s.update({"attention.weight": torch.ones(1)}), r"has 'attention\.weight', unknown"),
        (lambda s: s.update({"decoder.seg_layers.3.bias": torch.ones(3)}), r"has 'decoder\.seg_layers\.3\.bias'"),
        (
            lambda s: first(s, lambda t: t[..., :1]),
            r"convs\.0\.conv\.weight has shape \(12, 6, 3, 1\), .* \(12, 6, 3, 3\)",
        ),
        (lambda s: first(s, with_nan), r"encoder\.stages\.1\.0\.convs\.0\.conv\.weight holds NaN"),
        (lambda s: first(s, lambda t: t.long()), r"convs\.0\.conv\.weight is not a tensor of numbers"),
        (lambda s: first(s, lambda t: t.to_sparse()), r"convs\.0\.conv\.weight is not a tensor of numbers"),
        (lambda s: s.update({"encoder.stages.1.0.convs.0.conv.weight": 3}), r"is not a tensor of numbers"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_tensors_name(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    shape = topology(V2, 2)
    path = save(peer(V2, shape), V2, tmp_path, change)
    with pytest.raises(ModelError, match=rf"^checkpoint_final\.pth.*{message}"):
        read_weights(path, V2, shape)


def test_v1_network_without_transposed_convolutions_is_refused(tmp_path: Path) -> None:
    shape = topology(V1, 2)

    def forget(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if key.startswith("tu.")]:
            del state[key]

    with pytest.raises(ModelError, match="upsamples without convolutions"):
        read_weights(save(peer(V1, shape), V1, tmp_path, forget), V1, shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"weights": {}}, "has no 'network_weights'"), ([1, 2], "holds a list"), ({"network_weights": {1: 2}}, "has no")],
)
def test_other_files_of_torch_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "x.pth", V2, topology(V2, 2))


class Hostile:
    """Unpickled without care, this leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_foreign_code_in_a_checkpoint_is_named_and_never_run(zipped: bool, tmp_path: Path) -> None:
    shape, trace = topology(V2, 2), tmp_path / "executed"
    path = save(peer(V2, shape), V2, tmp_path, zipped=zipped, logging=Hostile(trace))
    for read in (lambda: read_weights(path, V2, shape), lambda: read_header(path)):
        with pytest.raises(ModelError, match=r"checkpoint_final\.pth holds (posix|os)\.system"):
            read()
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the trap itself works"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"text" * 100])
def test_files_that_are_not_checkpoints_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.pth"):
        read_weights(tmp_path / "x.pth", V2, topology(V2, 2))


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    shape = topology(V2, 2)
    for zipped in (True, False):
        path = save(peer(V2, shape), V2, tmp_path, zipped=zipped)
        path.write_bytes(path.read_bytes()[:-3000])
        with pytest.raises(ModelError, match="checkpoint_final"):
            read_weights(path, V2, shape)


def test_a_missing_or_too_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = topology(V2, 2)
    with pytest.raises(ModelError, match="FileNotFoundError"):
        read_weights(tmp_path / "no.pth", V2, shape)
    path = save(peer(V2, shape), V2, tmp_path)
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than"):
        read_weights(path, V2, shape)


HISTORY = {
    "logging": {"losses": [np.float64(0.5), np.float32(1), np.int64(3)], "curve": np.arange(3.0)},
    "device": torch.device("cpu"),
}


def test_loss_histories_of_numpy_are_read(tmp_path: Path) -> None:
    path = save(peer(V2, topology(V2, 2)), V2, tmp_path, **HISTORY, **HEADER)
    assert read_header(path).configuration == "3d_fullres"


def named_by_numpy_1(data: bytes) -> bytes:
    """A protocol-2 pickle as numpy 1 wrote it: only the module's name differs."""
    assert b"cnumpy._core.multiarray\n" in data
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def test_loss_histories_of_numpy_1_are_read(tmp_path: Path) -> None:
    """torch's legacy format is bare pickles, so the name can be changed in the bytes."""
    path = save(peer(V1, topology(V1, 2)), V1, tmp_path, zipped=False, **HISTORY)
    path.write_bytes(named_by_numpy_1(path.read_bytes()))
    assert read_weights(path, V1, topology(V1, 2))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"inference_allowed_mirroring_axes": (0, 1, 2)}, (0, 1, 2)),
        ({"inference_allowed_mirroring_axes": None}, ()),
        ({}, ()),
    ],
)
def test_header_holds_the_mirroring_axes(axes: dict[str, object], expected: tuple[int, ...], tmp_path: Path) -> None:
    path = save(peer(V2, topology(V2, 2)), V2, tmp_path, **HEADER, **axes)
    assert read_header(path) == CheckpointHeader("3d_fullres", expected)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"trainer_name": "nnUNetTrainer"},
        {"trainer_name": "nnUNetTrainer", "init_args": {"configuration": 3}},
        {**HEADER, "inference_allowed_mirroring_axes": (0, 7)},
        {**HEADER, "inference_allowed_mirroring_axes": "all"},
    ],
)
def test_a_header_that_says_nothing_is_refused(header: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="checkpoint_final"):
        read_header(save(peer(V2, topology(V2, 2)), V2, tmp_path, **header))
