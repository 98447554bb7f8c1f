"""Open sessions of ONNX Runtime: exactly one runtime is installed, and the provider reported is the one that runs."""

from __future__ import annotations

import hashlib
import logging
import os
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from orthanc_plugin.errors import ConfigError, ModelError
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.openvino import NAME, OpenVinoSession, openvino_installed

_LOG = logging.getLogger(__name__)
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_MOST_THREADS = 8


class Provider(StrEnum):
    """Where networks run. AUTO: a GPU, else OpenVINO if installed, else the CPU. TENSORRT: else CUDA, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


_NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
    Provider.OPENVINO: NAME,
}
_ORDER = {
    Provider.AUTO: (Provider.CUDA, Provider.OPENVINO, Provider.CPU),
    Provider.CPU: (Provider.CPU,),
    Provider.CUDA: (Provider.CUDA,),
    Provider.TENSORRT: (Provider.TENSORRT, Provider.CUDA, Provider.CPU),
    Provider.OPENVINO: (Provider.OPENVINO,),
}
# An exhaustive search of convolution algorithms takes minutes at the first run of a 3-D network (onnxruntime#7212).
# TF32 would round the input of fp32 graphs to 10 bits. Who wants speed converts a model as fp16, which is checked.
_CUDA = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


def usable_threads() -> int:
    """Count the CPUs that this process may use, 8 at most."""
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def ensure_one_runtime() -> str:
    """Return the name of the installed ONNX Runtime package.

    Raises
    ------
    ConfigError
        If none or both are installed. Both contain the same module; together they silently run on the CPU.
    """
    found = [name for name in _RUNTIMES if _installed(name)]
    if len(found) == 2:
        raise ConfigError("onnxruntime and onnxruntime-gpu are both installed: pip uninstall both, then install one")
    if not found:
        raise ConfigError("ONNX Runtime is missing: pip install orthanc-enrichment[cpu], or [gpu] for NVIDIA GPUs")
    return found[0]


def choose_provider(wanted: Provider) -> tuple[Provider, ...]:
    """Return the providers to try, in order; log if the wanted one is missing and another replaces it.

    Raises
    ------
    ConfigError
        If the runtime is missing or installed twice, or supports none of these providers.
    """
    package = ensure_one_runtime()
    import onnxruntime

    available = {*onnxruntime.get_available_providers(), *([NAME] if openvino_installed() else ())}
    order = tuple(provider for provider in _ORDER[wanted] if _NAMES[provider] in available)
    if wanted is Provider.OPENVINO and not order:
        raise ConfigError("Provider openvino is not installed: pip install orthanc-enrichment[openvino]")
    if not order:
        raise ConfigError(f"Provider {wanted.value} is not in {package}; it has: {', '.join(sorted(available))}")
    if wanted is Provider.TENSORRT and wanted not in order:
        _LOG.warning("provider tensorrt is not in %s: trying %s instead", package, order[0].value)
    return order


def open_session(
    graph: Path,
    wanted: Provider,
    threads: int | None = None,
    *,
    arena: bool = True,
    convolutions: bool = True,
    replayed: bool = False,
) -> tuple[Any, Provider]:
    """Open an ONNX file.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    wanted : Provider
        AUTO falls back to OpenVINO and the CPU, TENSORRT to CUDA and then to the CPU (logged); the others do not.
    threads : int, optional
        Threads of one operation; default: `usable_threads`.
    arena : bool
        Whether the session keeps the CPU memory of its activations between runs. Without it, four 3-D convolutions
        peaked at 227 MiB instead of 326, kept 107 MiB instead of 326, and took 1.85 CPU seconds instead of 1.83.
    convolutions : bool
        Whether the graph is a network of convolutions. OpenVINO runs those in about half the time, and the others
        more slowly than ONNX Runtime, which then takes its place.
    replayed : bool
        Whether every run has the same buffers on the GPU, so that its kernels are recorded once as a CUDA graph.

    Returns
    -------
    InferenceSession or OpenVinoSession, Provider
        The session and the provider that really runs it.

    Raises
    ------
    ConfigError
        If the wanted provider does not start.
    ModelError
        If the file cannot be loaded.
    OutOfMemoryError
        If memory runs out.
    """
    candidates = choose_provider(wanted)
    if not convolutions:
        candidates = tuple(each for each in candidates if each is not Provider.OPENVINO) or (Provider.CPU,)
    for provider in candidates:
        try:
            session = _try_session(graph, provider, threads or usable_threads(), arena, replayed)
        except ModelError as error:
            if provider is candidates[-1] or provider is not Provider.OPENVINO:
                raise
            _LOG.warning("%s", error)
            continue
        if session.get_providers()[0] == _NAMES[provider]:
            return session, provider
        _LOG.warning("provider %s does not start on this machine", provider.value)
    raise ConfigError(f"Provider {wanted.value} does not start on this machine: driver or CUDA libraries are missing")


def device_options(kind: str) -> list[tuple[str, dict[str, str]]]:
    """List providers and options of small graphs that run on a device, `cuda` or `cpu`."""
    return [(_NAMES[Provider.CUDA], _CUDA)] if kind == Provider.CUDA.value else [(_NAMES[Provider.CPU], {})]


def _starting(graph: Path, provider: Provider, replayed: bool) -> list[tuple[str, dict[str, str]]]:
    """List the provider, and CUDA for what TensorRT cannot run; ONNX Runtime adds the CPU itself."""
    cuda = (_NAMES[Provider.CUDA], _CUDA | ({"enable_cuda_graph": "1"} if replayed else {}))
    match provider:
        case Provider.CUDA:
            return [cuda]
        case Provider.TENSORRT:
            recorded = {"trt_cuda_graph_enable": "1"} if replayed else {}
            return [(_NAMES[provider], engine_cache(graph) | recorded), (_NAMES[Provider.CUDA], _CUDA)]
        case _:
            return [(_NAMES[provider], {})]


def engine_cache(graph: Path) -> dict[str, str]:
    """Return the options that keep TensorRT's engine of a graph, which takes minutes to build.

    TensorRT recognises an engine by the shape of its graph and not by its weights. So each graph has a folder of its
    own, under $XDG_CACHE_HOME or ~/.cache. Without a folder that can be written, engines are built at each start.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with graph.open("rb") as file:
        folder = root / "orthanc-enrichment" / "tensorrt" / hashlib.file_digest(file, "sha256").hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _LOG.warning("TensorRT engines are not kept: %s", error.strerror)
        return {}
    path = str(folder)
    return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": path, "trt_timing_cache_enable": "1"}


def _try_session(graph: Path, provider: Provider, threads: int, arena: bool, replayed: bool) -> Any:
    if provider is Provider.OPENVINO:
        return OpenVinoSession(graph, threads)
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
    options.enable_cpu_mem_arena = arena
    try:
        with memory_errors(graph.name, provider.value):
            return onnxruntime.InferenceSession(str(graph), options, providers=_starting(graph, provider, replayed))
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile, NotImplemented) as error:
        if replayed and provider in (Provider.CUDA, Provider.TENSORRT):
            _LOG.warning("%s: its kernels cannot be recorded as a CUDA graph; each is started anew", graph.name)
            return _try_session(graph, provider, threads, arena, replayed=False)
        raise ModelError(f"{graph.name} cannot be loaded: {type(error).__name__}") from error
