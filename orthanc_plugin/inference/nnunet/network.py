"""One ONNX graph of an nnU-Net, open and checked: (N, C, *patch) in, (N, heads, *patch) out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.catalog.nnunet import Configuration
from orthanc_plugin.errors import ModelError, TransientError
from orthanc_plugin.inference.providers import Provider, open_session

Field = NDArray[np.float32]

_INPUT, _OUTPUT = "image", "logits"
_NO_MEMORY = ("allocate memory", "bad_alloc", "out of memory", "BFCArena")


class Network:
    """A warm session of one fold.

    Raises
    ------
    ModelError
        If the file cannot be loaded, or its input and output are not those the card tells of.
    ConfigError
        If the provider does not start.
    """

    def __init__(self, graph: Path, configuration: Configuration, channels: int, wanted: Provider) -> None:
        self._name = graph.name
        self._session, self.provider = open_session(graph, wanted, arena=False)
        patch = tuple(configuration.patch_size)
        self._check("input", self._session.get_inputs(), _INPUT, (channels, *patch))
        self._check("output", self._session.get_outputs(), _OUTPUT, (configuration.heads, *patch))

    def _check(self, kind: str, found: list[Any], name: str, shape: tuple[int, ...]) -> None:
        if [(value.name, value.type, tuple(value.shape[1:])) for value in found] != [(name, "tensor(float)", shape)]:
            seen = ", ".join(f"{value.name} {value.type} {value.shape}" for value in found)
            expected = ", ".join(map(str, ("N", *shape)))
            raise ModelError(
                f"{self._name}: {kind} is {seen}, but its card says {name} tensor(float) [{expected}]; "
                "convert the model again"
            )

    def run(self, images: Field) -> Field:
        """Class values of a batch: (N, C, *patch) to (N, heads, *patch), both float32; the caller may overwrite them.

        Raises
        ------
        TransientError
            If memory runs out.
        ModelError
            If the graph fails otherwise, or gives values that are no numbers.
        """
        from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, RuntimeException

        try:
            (values,) = self._session.run([_OUTPUT], {_INPUT: np.ascontiguousarray(images)})
        except MemoryError as error:
            raise TransientError(f"{self._name}: out of memory") from error
        except (EPFail, Fail, InvalidArgument, RuntimeException) as error:
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise TransientError(f"{self._name}: out of memory on {self.provider.value}") from error
            raise ModelError(f"{self._name} fails on {self.provider.value}: {type(error).__name__}") from error
        with np.errstate(invalid="ignore"):
            total = values.sum()
        if not np.isfinite(total):
            raise ModelError(f"{self._name} gives values that are no numbers; convert the model with --precision fp32")
        return np.asarray(values, np.float32)
