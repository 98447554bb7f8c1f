"""Run bpreg 1.1.0 unchanged in its own process: it prints, warns, changes the path and needs older libraries.

What its imports miss in libraries of today is put in place before (`_prepare`); none of its code is replaced.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Peer:
    """A process that runs bpreg; `call` runs a function there (one of this module, or any that can be pickled)."""

    def __init__(self, threads: int = 2) -> None:
        environment = {"MPLBACKEND": "agg", "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": str(threads)}
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (environment,))

    def call(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Return what `function` returns there."""
        return self._pool.submit(_quietly, function, args, kwargs).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def raw_scores(folder: Path, slices: np.ndarray) -> np.ndarray:
    """bpreg's raw scores, (N,) float64, of slices (N, size, size) float32 that are preprocessed already."""
    return np.asarray(_model(folder).predict_npy_array(slices))


def located(folder: Path, nifti: Path) -> dict[str, Any]:
    """The JSON that bpreg makes of a NIfTI file (its keys: look at `VolumeStorage`)."""
    found = _model(folder).nifti2json(str(nifti))
    assert isinstance(found, dict), "bpreg could not preprocess the file"
    return found


def preprocessed(folder: Path, nifti: Path) -> np.ndarray:
    """What enters bpreg's network for a NIfTI file, (N, size, size) float32, slices in its own order."""
    volume, _ = _model(folder).n2n.preprocess_nifti(str(nifti))
    return np.ascontiguousarray(np.transpose(volume, (2, 0, 1)), np.float32)


@lru_cache(maxsize=2)
def _model(folder: Path) -> Any:
    from bpreg.inference import InferenceModel

    return InferenceModel(f"{folder}/", gpu=False)


def _quietly(function: Callable[..., Result], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return function(*args, **kwargs)


def _prepare(environment: dict[str, str]) -> None:
    """Before torch is first imported: it counts its threads then."""
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    _torchvision()
    # numpy 2 has no such module; bpreg imports a function of it that it never calls.
    module: Any = ModuleType("numpy.lib.arraysetops")
    module.isin = np.isin
    sys.modules[module.__name__] = module
    # albumentations 2 has no Flip; bpreg names it for training.
    import albumentations

    albumentations.Flip = albumentations.HorizontalFlip


def _torchvision() -> None:
    """The wheel built for CUDA cannot be imported beside torch's CPU build until its operators have a schema."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


_LIBRARIES: list[Any] = []
"""Keep a reference: torch forgets the schemas of a library without one."""
