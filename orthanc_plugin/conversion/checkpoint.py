"""Read files of torch.save without running their contents, and check them against the tensors of a network.

Files are untrusted. torch's weights-only unpickler reads them with a few numpy names more and a limit on their size. A
checkpoint must hold every tensor of the network, finite and of its shape, and nothing else.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from orthanc_plugin.errors import ModelError

MOST_BYTES = 4 * 2**30
"""Largest checkpoint: a few hundred MB of weights, and twice as much optimiser state."""

_NUMPY_1 = "numpy.core.multiarray"
_NUMPY_2 = "numpy._core.multiarray"
_HARMLESS: list[Any] = [
    *((multiarray.scalar, f"{module}.scalar") for module in (_NUMPY_1, _NUMPY_2)),
    *((multiarray._reconstruct, f"{module}._reconstruct") for module in (_NUMPY_1, _NUMPY_2)),
    np.dtype,
    np.ndarray,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
]
"""What a checkpoint holds beside tensors: the losses of the training, as numpy scalars and arrays."""

_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")
_FOREIGN = re.compile(r"GLOBAL ([\w.]+\w)")


def read_checkpoint(path: Path) -> dict[Any, Any]:
    """Read a file of torch.save, in either of its formats.

    Raises
    ------
    ModelError
        If the file is missing, damaged or too large, names a class that weights do not need, or is not a dict.
    """
    try:
        _refuse_large(path)
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _FOREIGN.search(str(error))
        why = f"holds {foreign[1]}, which a checkpoint does not need" if foreign else "cannot be read safely"
        raise ModelError(f"{path.name} {why}; get it again from its publisher") from error
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{path.name} is not a readable checkpoint ({type(error).__name__}); get it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} holds a {type(content).__name__} instead of a checkpoint")
    return content


def _refuse_large(checkpoint: Path) -> None:
    size = checkpoint.stat().st_size
    if zipfile.is_zipfile(checkpoint):
        with zipfile.ZipFile(checkpoint) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    if size > MOST_BYTES:
        raise ModelError(f"{checkpoint.name} is larger than {MOST_BYTES // 2**30} GiB, which checkpoints never are")


def unwrapped(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a state dict without the prefixes that data parallelism and torch.compile add to its names."""
    return {_WRAPPED.sub("", key): value for key, value in state.items() if isinstance(key, str)}


def checked_tensors(
    checkpoint: Path, found: Mapping[str, object], wanted: Mapping[str, tuple[int, ...]], says: str
) -> dict[str, Tensor]:
    """Check tensors against the names and shapes of a network.

    Parameters
    ----------
    checkpoint : Path
        The file, for errors.
    found : mapping
        Tensors by name.
    wanted : mapping
        Shapes of the network's tensors by name.
    says : str
        What states the shapes, for errors: `its plans`.

    Returns
    -------
    dict of str to Tensor
        float32, in the order of `wanted`.

    Raises
    ------
    ModelError
        If names are missing or unknown, or a value is not a tensor, not finite or of another shape.
    """
    if missing := wanted.keys() - found.keys():
        raise ModelError(f"{checkpoint.name} lacks {_some(missing)}; it does not match {says}")
    if unexpected := found.keys() - wanted.keys():
        raise ModelError(
            f"{checkpoint.name} has {_some(unexpected)}, unknown to {says}; it may have another architecture"
        )
    return {key: _tensor(checkpoint, key, found[key], shape, says) for key, shape in wanted.items()}


def _tensor(checkpoint: Path, key: str, tensor: object, shape: tuple[int, ...], says: str) -> Tensor:
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise ModelError(f"{checkpoint.name}: {key} is not a tensor of numbers; get the file again")
    if tuple(tensor.shape) != shape:
        raise ModelError(f"{checkpoint.name}: {key} has shape {tuple(tensor.shape)}, {says} imply {shape}")
    values = tensor.detach().float().contiguous()
    if not torch.isfinite(values).all():
        raise ModelError(f"{checkpoint.name}: {key} holds NaN or infinite values; its training diverged")
    return values


def _some(keys: Iterable[str]) -> str:
    first, *rest = sorted(keys)
    return f"{first!r} and {len(rest)} more" if rest else repr(first)
