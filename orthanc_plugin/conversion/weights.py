"""Read checkpoints of nnU-Net safely (`checkpoint`) and rename their weights to the keys of `network.UNet`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion.checkpoint import checked_tensors, read_checkpoint, unwrapped
from orthanc_plugin.conversion.network import UNet
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.errors import ModelError

_STATE = {Framework.V1: "state_dict", Framework.V2: "network_weights"}
_REPEATED = re.compile(r"^decoder\.encoder\.|\.all_modules\.")
_OTHER_HEAD = re.compile(r"^decoder\.seg_layers\.(\d+)\.")
_V1_BLOCK = r"blocks\.(\d+)\.(conv|instnorm)\.(weight|bias)$"
_V1_ENCODER = re.compile(rf"^conv_blocks_context\.(\d+)\.{_V1_BLOCK}")
_V1_BOTTLENECK = re.compile(rf"^conv_blocks_context\.(\d+)\.([01])\.{_V1_BLOCK}")
_V1_DECODER = re.compile(rf"^conv_blocks_localization\.(\d+)\.([01])\.{_V1_BLOCK}")


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """What a v2 checkpoint says of its training. mirror_axes: axes of the patch; empty if mirroring was off."""

    configuration: str
    mirror_axes: tuple[int, ...]


def read_weights(checkpoint: Path, framework: Framework, topology: Topology) -> dict[str, Tensor]:
    """Read the weights of one fold.

    Parameters
    ----------
    checkpoint : Path
        `model_final_checkpoint.model` (v1) or `checkpoint_final.pth` (v2), in either format of torch.save.
    framework : Framework
        The framework that wrote the file.
    topology : Topology
        The network that the plans describe.

    Returns
    -------
    dict of str to Tensor
        float32, complete for `UNet(topology).load_state_dict`.

    Raises
    ------
    ModelError
        If the file cannot be read safely, or does not hold exactly the finite tensors of this network.
    """
    state = read_checkpoint(checkpoint).get(_STATE[framework])
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ModelError(f"{checkpoint.name} has no {_STATE[framework]!r}; it is not a {framework.value} checkpoint")
    names = unwrapped(state)
    if framework is Framework.V1:
        if not any(key.startswith("tu.") for key in names):
            raise ModelError(f"{checkpoint.name} upsamples without convolutions (no 'tu' weights): not supported")
        names = {_v2_name(key, topology): tensor for key, tensor in names.items()}
    wanted = {key: tuple(value.shape) for key, value in UNet(topology).state_dict().items()}
    return checked_tensors(checkpoint, dict(_of_network(names, topology)), wanted, "its plans")


def read_header(checkpoint: Path) -> CheckpointHeader:
    """Read configuration and mirroring axes of a v2 checkpoint.

    Raises
    ------
    ModelError
        If the file cannot be read safely, or does not name its trainer and configuration.
    """
    content = read_checkpoint(checkpoint)
    start = content.get("init_args")
    match content.get("trainer_name"), start.get("configuration") if isinstance(start, dict) else None:
        case str(), str(configuration):
            axes = content.get("inference_allowed_mirroring_axes") or ()
            if not isinstance(axes, tuple | list) or not all(type(axis) is int and 0 <= axis < 3 for axis in axes):
                raise ModelError(f"{checkpoint.name}: inference_allowed_mirroring_axes are not axes")
            return CheckpointHeader(configuration, tuple(axes))
    raise ModelError(
        f"{checkpoint.name} names no trainer or configuration; it is not a {Framework.V2.value} checkpoint"
    )


def _v2_name(key: str, topology: Topology) -> str:
    """Translate a v1 name to v2; unknown names stay as they are and are refused later."""
    if found := _V1_ENCODER.match(key):
        stage, block, *rest = found.groups()
        return _convolution(f"encoder.stages.{stage}.0", int(block), *rest)
    if found := _V1_BOTTLENECK.match(key):
        stage, stack, block, *rest = found.groups()
        return _convolution(f"encoder.stages.{stage}.0", _place(stack, block, topology.encoder_blocks[-1]), *rest)
    if (found := _V1_DECODER.match(key)) and int(found[1]) < len(topology.decoder_convs):
        step, stack, block, *rest = found.groups()
        return _convolution(f"decoder.stages.{step}", _place(stack, block, topology.decoder_convs[int(step)]), *rest)
    return re.sub(r"^seg_outputs\.", "decoder.seg_layers.", re.sub(r"^tu\.", "decoder.transpconvs.", key))


def _place(stack: str, block: str, blocks: int) -> int:
    """Find the position of a block: v1 keeps the last convolution of bottleneck and decoder in its own stack."""
    return int(block) + (blocks - 1 if stack == "1" else 0)


def _convolution(stage: str, number: int, layer: str, value: str) -> str:
    return f"{stage}.convs.{number}.{'norm' if layer == 'instnorm' else layer}.{value}"


def _of_network(names: dict[str, Any], topology: Topology) -> Iterator[tuple[str, Any]]:
    """Drop v2's repeated names and the heads of deep supervision."""
    last = len(topology.features) - 2
    for key, tensor in names.items():
        head = _OTHER_HEAD.match(key)
        if not _REPEATED.search(key) and (head is None or int(head[1]) >= last):
            yield key, tensor
