"""Open and run an ONNX graph that has one input and one output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.memory import memory_errors
from orthanc_plugin.inference.providers import Provider, open_session

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class End:
    """A float32 input or output of a graph: its name, and its shape without the batch."""

    name: str
    shape: tuple[int, ...]


class Network:
    """A warm session.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    start, end : End
        Input and output, as the card describes them.
    wanted : Provider
        See `open_session`.
    arena, replayed : bool
        See `open_session`.

    Raises
    ------
    ModelError
        If the file cannot be loaded, or its input and output are not those of the card.
    ConfigError
        If the provider does not start.
    """

    def __init__(
        self, graph: Path, start: End, end: End, wanted: Provider, *, arena: bool = True, replayed: bool = False
    ) -> None:
        self._name, self._start, self._end = graph.name, start, end
        self._session, self.provider = open_session(graph, wanted, arena=arena, replayed=replayed)
        self._buffers: dict[int, tuple[Any, Any]] = {}
        self._check("input", self._session.get_inputs(), start)
        self._check("output", self._session.get_outputs(), end)

    def _check(self, kind: str, found: list[Any], end: End) -> None:
        if [(value.name, value.type, tuple(value.shape[1:])) for value in found] != [
            (end.name, "tensor(float)", end.shape)
        ]:
            seen = ", ".join(f"{value.name} {value.type} {value.shape}" for value in found)
            expected = ", ".join(map(str, ("N", *end.shape)))
            raise ModelError(
                f"{self._name}: {kind} is {seen}, but its card says {end.name} tensor(float) [{expected}]; "
                "convert the model again"
            )

    def run(self, values: Values) -> Values:
        """Run a batch: (N, *start.shape) to (N, *end.shape), both float32; the caller may overwrite the result.

        Raises
        ------
        OutOfMemoryError
            If memory runs out.
        ModelError
            If the graph fails otherwise, or gives NaN or infinite values.
        """
        with self._errors():
            (found,) = self._session.run([self._end.name], {self._start.name: np.ascontiguousarray(values)})
        with np.errstate(invalid="ignore"):
            total = found.sum()
        if not np.isfinite(total):
            raise ModelError(f"{self._name} gives values that are not finite numbers; convert the model again, as fp32")
        return np.asarray(found, np.float32)

    def buffers(self, device: str, batch: int) -> tuple[Any, Any]:
        """Return the input (batch, *start.shape) and output (batch, *end.shape) of `run_on_device`, always the same.

        Parameters
        ----------
        device : str
            `cuda` or `cpu`, where the session runs.
        batch : int
            Number of images.
        """
        import onnxruntime

        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        if batch not in self._buffers:
            with self._errors():
                start, end = (make((batch, *each.shape), np.float32, device, 0) for each in (self._start, self._end))
            self._buffers[batch] = start, end
        return self._buffers[batch]

    def run_on_device(self, device: str, batch: int) -> None:
        """Run what lies in the input buffer; the result lies in the output buffer, and is not looked at.

        Raises
        ------
        OutOfMemoryError
            If memory runs out.
        ModelError
            If the graph fails otherwise.
        """
        import onnxruntime

        start, end = self.buffers(device, batch)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._start.name, start)
        binding.bind_ortvalue_output(self._end.name, end)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(batch))  # one CUDA graph for each size
        with self._errors():
            self._session.run_with_iobinding(binding, options)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, RuntimeException

        try:
            with memory_errors(self._name, self.provider.value):
                yield
        except (EPFail, Fail, InvalidArgument, RuntimeException, RuntimeError) as error:
            raise ModelError(f"{self._name} fails on {self.provider.value}: {type(error).__name__}") from error
