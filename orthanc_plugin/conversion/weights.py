"""Checkpoints of nnU-Net read without running what they may carry, and renamed to the keys of `network.UNet`.

Files are untrusted: torch's weights-only unpickler with a few numpy names, a limit on size, and then every tensor of
the network must be there, finite and of the shape that the plans imply; nothing else may be.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion.network import UNet
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.errors import ModelError

MOST_BYTES = 4 * 2**30
"""Largest checkpoint: weights of a few hundred MB, and twice as much of the optimiser's state."""

_STATE = {Framework.V1: "state_dict", Framework.V2: "network_weights"}
_NUMPY_1 = "numpy.core.multiarray"
_NUMPY_2 = "numpy._core.multiarray"
_HARMLESS: list[Any] = [
    *((multiarray.scalar, f"{module}.scalar") for module in (_NUMPY_1, _NUMPY_2)),
    *((multiarray._reconstruct, f"{module}._reconstruct") for module in (_NUMPY_1, _NUMPY_2)),
    np.dtype,
    np.ndarray,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
]
"""What a trained file holds beside tensors: the losses of its history, as numpy scalars and arrays."""

_FOREIGN = re.compile(r"GLOBAL ([\w.]+\w)")
_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
_REPEATED = re.compile(r"^decoder\.encoder\.|\.all_modules\.")
_OTHER_HEAD = re.compile(r"^decoder\.seg_layers\.(\d+)\.")
_V1_BLOCK = r"blocks\.(\d+)\.(conv|instnorm)\.(weight|bias)$"
_V1_ENCODER = re.compile(rf"^conv_blocks_context\.(\d+)\.{_V1_BLOCK}")
_V1_BOTTLENECK = re.compile(rf"^conv_blocks_context\.(\d+)\.([01])\.{_V1_BLOCK}")
_V1_DECODER = re.compile(rf"^conv_blocks_localization\.(\d+)\.([01])\.{_V1_BLOCK}")


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """What a v2 checkpoint says of its training. mirror_axes: of the patch; empty where mirroring was off."""

    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]


def read_weights(checkpoint: Path, framework: Framework, topology: Topology) -> dict[str, Tensor]:
    """Read the weights of one fold.

    Parameters
    ----------
    checkpoint : Path
        `model_final_checkpoint.model` (v1) or `checkpoint_final.pth` (v2); both formats of torch.save.
    framework : Framework
        Whose names the file uses.
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
    state = _read(checkpoint).get(_STATE[framework])
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ModelError(f"{checkpoint.name} has no {_STATE[framework]!r}; it is no {framework.value} checkpoint")
    names = {_WRAPPED.sub("", key): tensor for key, tensor in state.items()}
    if framework is Framework.V1:
        if not any(key.startswith("tu.") for key in names):
            raise ModelError(f"{checkpoint.name} upsamples without convolutions (no 'tu' weights): not supported")
        names = {_v2_name(key, topology): tensor for key, tensor in names.items()}
    return _checked(checkpoint, dict(_of_network(names, topology)), topology)


def read_header(checkpoint: Path) -> CheckpointHeader:
    """Read trainer, configuration and mirroring axes of a v2 checkpoint.

    Raises
    ------
    ModelError
        If the file cannot be read safely or lacks them.
    """
    content = _read(checkpoint)
    start = content.get("init_args")
    match content.get("trainer_name"), start.get("configuration") if isinstance(start, dict) else None:
        case str(trainer), str(configuration):
            axes = content.get("inference_allowed_mirroring_axes") or ()
            if not isinstance(axes, tuple | list) or not all(type(axis) is int and 0 <= axis < 3 for axis in axes):
                raise ModelError(f"{checkpoint.name}: inference_allowed_mirroring_axes are no axes")
            return CheckpointHeader(trainer, configuration, tuple(axes))
    raise ModelError(f"{checkpoint.name} names no trainer or configuration; it is no {Framework.V2.value} checkpoint")


def _read(checkpoint: Path) -> dict[Any, Any]:
    try:
        _refuse_large(checkpoint)
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _FOREIGN.search(str(error))
        why = f"holds {foreign[1]}, which no nnU-Net checkpoint needs" if foreign else "cannot be read safely"
        raise ModelError(f"{checkpoint.name} {why}; get it again from its publisher") from error
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(
            f"{checkpoint.name} is no readable checkpoint ({type(error).__name__}); get it again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{checkpoint.name} holds a {type(content).__name__}, not an nnU-Net checkpoint")
    return content


def _refuse_large(checkpoint: Path) -> None:
    size = checkpoint.stat().st_size
    if zipfile.is_zipfile(checkpoint):
        with zipfile.ZipFile(checkpoint) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    if size > MOST_BYTES:
        raise ModelError(f"{checkpoint.name} is larger than {MOST_BYTES // 2**30} GiB; no nnU-Net checkpoint is")


def _v2_name(key: str, topology: Topology) -> str:
    """A v1 name in v2's words; unknown ones stay as they are (and are refused later)."""
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
    """v1 keeps the last convolution of bottleneck and decoder in a stack of its own."""
    return int(block) + (blocks - 1 if stack == "1" else 0)


def _convolution(stage: str, number: int, layer: str, value: str) -> str:
    return f"{stage}.convs.{number}.{'norm' if layer == 'instnorm' else layer}.{value}"


def _of_network(names: dict[str, Any], topology: Topology) -> Iterator[tuple[str, Any]]:
    """Without v2's repeated names and the heads of deep supervision."""
    last = len(topology.features) - 2
    for key, tensor in names.items():
        head = _OTHER_HEAD.match(key)
        if not _REPEATED.search(key) and (head is None or int(head[1]) >= last):
            yield key, tensor


def _checked(checkpoint: Path, found: dict[str, Any], topology: Topology) -> dict[str, Tensor]:
    wanted = UNet(topology).state_dict()
    if missing := wanted.keys() - found.keys():
        raise ModelError(f"{checkpoint.name} lacks {_some(missing)}; it does not fit its plans")
    if unexpected := found.keys() - wanted.keys():
        raise ModelError(f"{checkpoint.name} has {_some(unexpected)}, unknown to its plans; other architecture?")
    return {key: _tensor(checkpoint, key, found[key], tuple(wanted[key].shape)) for key in wanted}


def _tensor(checkpoint: Path, key: str, tensor: object, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise ModelError(f"{checkpoint.name}: {key} is no tensor of numbers; get the file again")
    if tuple(tensor.shape) != shape:
        raise ModelError(f"{checkpoint.name}: {key} has shape {tuple(tensor.shape)}, its plans imply {shape}")
    values = tensor.detach().float().contiguous()
    if not torch.isfinite(values).all():
        raise ModelError(f"{checkpoint.name}: {key} holds NaN or infinite values; training had diverged")
    return values


def _some(keys: Iterable[str]) -> str:
    first, *rest = sorted(keys)
    return f"{first!r} and {len(rest)} more" if rest else repr(first)
