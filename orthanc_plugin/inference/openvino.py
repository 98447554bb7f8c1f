"""Run ONNX files with OpenVINO, on the CPU, behind the part of ONNX Runtime's session that engines use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import ModelError, OutOfMemoryError

NAME = "OpenVINO"
_TYPES = {"f32": "tensor(float)", "f16": "tensor(float16)", "i64": "tensor(int64)", "u8": "tensor(uint8)"}
_SIGNS = ("bad_alloc", "out of memory", "allocate memory", "std::length_error")
"""Words of OpenVINO and of C++ for memory that ran out; OpenVINO raises RuntimeError for everything."""


def openvino_installed() -> bool:
    """Tell whether the extra `openvino` is installed."""
    return find_spec("openvino") is not None


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a graph, in ONNX Runtime's words; a side of any length is None."""

    name: str
    type: str
    shape: tuple[int | None, ...]


class OpenVinoSession:
    """A compiled ONNX graph.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    threads : int
        Threads of one run.

    Raises
    ------
    ModelError
        If the file cannot be loaded.
    OutOfMemoryError
        If memory runs out.
    """

    def __init__(self, graph: Path, threads: int) -> None:
        import openvino

        self._name = graph.name
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # bf16, its choice on newer CPUs, changes labels
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two workers on one machine would be pinned to the same cores
        }
        try:
            self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            raise self._error(error, "cannot be loaded") from error
        self._request = self._compiled.create_infer_request()

    def _error(self, error: RuntimeError, what: str) -> ModelError | OutOfMemoryError:
        if any(sign in str(error) for sign in _SIGNS):
            return OutOfMemoryError(f"{self._name}: out of memory on {NAME}")
        return ModelError(f"{self._name} {what}: {type(error).__name__} of {NAME}")

    def get_inputs(self) -> list[Value]:
        """Describe the inputs."""
        return [_value(port) for port in self._compiled.inputs]

    def get_outputs(self) -> list[Value]:
        """Describe the outputs."""
        return [_value(port) for port in self._compiled.outputs]

    def get_providers(self) -> list[str]:
        """Name what runs the graph."""
        return [NAME]

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph; return the named outputs, which the caller may overwrite.

        Raises
        ------
        ModelError
            If the graph does not take this input.
        OutOfMemoryError
            If memory runs out.
        """
        try:
            found = self._request.infer(dict(feed), share_inputs=True)
        except RuntimeError as error:
            raise self._error(error, f"fails on input {[value.shape for value in feed.values()]}") from error
        return [np.asarray(found[name]) for name in outputs]


def _value(port: Any) -> Value:
    kind = port.get_element_type().get_type_name()
    shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
    return Value(port.get_any_name(), _TYPES.get(kind, f"tensor({kind})"), shape)
