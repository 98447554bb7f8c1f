"""Tell "memory ran out" from all else that goes wrong in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orthanc_plugin.errors import OutOfMemoryError

_SIGNS = ("allocate memory", "bad_alloc", "out of memory", "BFCArena", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""Words of the arena, of C++, of CUDA, and of cuDNN and cuBLAS; ONNX Runtime has no exception of its own for it."""


@contextmanager
def memory_errors(what: str, where: str) -> Iterator[None]:
    """Raise OutOfMemoryError for what ONNX Runtime or numpy raise when memory runs out; let other errors pass.

    Parameters
    ----------
    what : str
        Name of the graph.
    where : str
        Execution provider.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, RuntimeException

    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"{what}: out of memory") from error
    except (EPFail, Fail, InvalidArgument, RuntimeException) as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise OutOfMemoryError(f"{what}: out of memory on {where}") from error
        raise
