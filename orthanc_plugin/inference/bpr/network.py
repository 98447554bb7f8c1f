"""The graph of a body part regression, open and checked: (N, 1, size, size) in, (N, 1) out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.errors import ModelError, TransientError
from orthanc_plugin.inference.bpr.slices import Batch
from orthanc_plugin.inference.providers import Provider, open_session

_INPUT, _OUTPUT = "slices", "scores"
_NO_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "BFCArena")


class Network:
    """A warm session.

    Raises
    ------
    ModelError
        If the file cannot be loaded, or is no graph from slices of `size` to scores.
    ConfigError
        If the provider does not start.
    """

    def __init__(self, graph: Path, size: int, wanted: Provider) -> None:
        self._name = graph.name
        self._session, self.provider = open_session(graph, wanted)
        self._check("input", self._session.get_inputs(), _INPUT, (1, size, size))
        self._check("output", self._session.get_outputs(), _OUTPUT, (1,))

    def _check(self, kind: str, found: list[Any], name: str, shape: tuple[int, ...]) -> None:
        if [(value.name, value.type, tuple(value.shape[1:])) for value in found] != [(name, "tensor(float)", shape)]:
            seen = ", ".join(f"{value.name} {value.type} {value.shape}" for value in found)
            raise ModelError(
                f"{self._name}: {kind} is {seen}, not {name} tensor(float) {['N', *shape]}; convert the model again"
            )

    def run(self, slices: Batch) -> NDArray[np.float64]:
        """Raw scores (N,) of (N, 1, size, size) slices.

        Raises
        ------
        TransientError
            If memory runs out.
        ModelError
            If the graph fails otherwise.
        """
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, RuntimeException

        try:
            (scores,) = self._session.run([_OUTPUT], {_INPUT: slices})
        except MemoryError as error:
            raise TransientError(f"{self._name}: out of memory") from error
        except (EPFail, Fail, InvalidArgument, RuntimeException) as error:
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise TransientError(f"{self._name}: out of memory on {self.provider.value}") from error
            raise ModelError(f"{self._name} fails on {self.provider.value}: {type(error).__name__}") from error
        return np.asarray(scores, np.float64)[:, 0]
