"""ONNX Runtime and its execution providers: exactly one runtime is installed, and what is reported is what runs."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from orthanc_plugin.errors import ConfigError, ModelError

_LOG = logging.getLogger(__name__)
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_MOST_THREADS = 8


class Provider(StrEnum):
    """Where networks run. AUTO takes the GPU where one works, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


_NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def ensure_one_runtime() -> str:
    """Name of the installed ONNX Runtime package.

    Raises
    ------
    ConfigError
        If none is installed, or both: they hold the same module, and together they silently run on the CPU.
    """
    found = [name for name in _RUNTIMES if _installed(name)]
    if len(found) == 2:
        raise ConfigError("onnxruntime and onnxruntime-gpu are both installed: pip uninstall both, then install one")
    if not found:
        raise ConfigError("ONNX Runtime is missing: pip install orthanc-enrichment[cpu], or [gpu] for NVIDIA GPUs")
    return found[0]


def choose_provider(wanted: Provider) -> tuple[Provider, ...]:
    """Providers to try in this order.

    Raises
    ------
    ConfigError
        If the runtime is missing or doubled, or was not built for the wanted provider.
    """
    package = ensure_one_runtime()
    import onnxruntime

    available = set(onnxruntime.get_available_providers())
    if wanted is Provider.AUTO:
        return tuple(p for p in (Provider.CUDA, Provider.CPU) if _NAMES[p] in available)
    if _NAMES[wanted] not in available:
        raise ConfigError(f"Provider {wanted.value} is not in {package}; it has: {', '.join(sorted(available))}")
    return (wanted,)


def open_session(graph: Path, wanted: Provider, threads: int | None = None) -> tuple[Any, Provider]:
    """Open an ONNX file.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    wanted : Provider
        AUTO falls back to the CPU; the others do not.
    threads : int, optional
        Threads of one operation; default all CPUs this process may use, at most 8.

    Returns
    -------
    InferenceSession, Provider
        The session and the provider that really runs it.

    Raises
    ------
    ConfigError
        If the wanted provider does not start.
    ModelError
        If the file cannot be loaded.
    """
    candidates = choose_provider(wanted)
    for provider in candidates:
        session = _try_session(graph, provider, threads or min(_MOST_THREADS, len(os.sched_getaffinity(0))))
        if session.get_providers()[0] == _NAMES[provider]:
            return session, provider
        _LOG.warning("provider %s does not start on this machine", provider.value)
    raise ConfigError(f"Provider {wanted.value} does not start on this machine: driver or CUDA libraries are missing")


def _try_session(graph: Path, provider: Provider, threads: int) -> Any:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidGraph,
        InvalidProtobuf,
        NoSuchFile,
        NotImplemented,
    )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=[_NAMES[provider]])
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented) as error:
        raise ModelError(f"{graph.name} cannot be loaded: {type(error).__name__}") from error
