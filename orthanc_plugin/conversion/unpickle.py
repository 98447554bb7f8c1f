"""Read pickles of nnU-Net v1 with an unpickler that allows a few names and runs nothing else.

A pickle is a program, but the plans of v1 need only containers, numbers and numpy arrays. Any other class or function
is refused by its name. numpy trusts what a pickle says of a type's fields and flags, and could then use bytes of the
file as pointers; so this module makes the types itself, by their names alone.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray

from orthanc_plugin.errors import ModelError

MOST_BYTES = 64 * 2**20
"""Plans of 25 classes take 0.2 MB; with the properties of thousands of cases they take a few MB."""


def _latin1(text: str, encoding: str) -> bytes:
    """Do what `_codecs.encode` does in numpy's protocol 2 pickles, without its other codecs."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _Type:
    """Stands for a numpy type; only the byte order of its state is used."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(str(name))
        if self.dtype.kind not in "biufcSUO":
            raise pickle.UnpicklingError(f"numpy type {name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, kind, fortran, data = state
        super().__setstate__((version, shape, _dtype(kind), fortran, data))


def _scalar(kind: object, data: object) -> object:
    return multiarray.scalar(_dtype(kind), data)


def _dtype(kind: object) -> np.dtype[Any]:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError(f"a numpy type that is a {type(kind).__name__}")
    return kind.dtype


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
}


class _Foreign(pickle.UnpicklingError):
    """The pickle names a class that plans do not need."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        # numpy 1 called the module `numpy.core`.
        known = _ALLOWED.get((module.replace("numpy.core.", "numpy._core."), name))
        if known is None:
            raise _Foreign(f"{module}.{name}")
        return known


def read_pickle(path: Path) -> object:
    """Read a pickle of plain containers, numbers, text and numpy arrays.

    Raises
    ------
    ModelError
        If the file is missing, damaged or larger than `MOST_BYTES`, or names a class that is not allowed; the message
        names the class.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(f"{path} is larger than {MOST_BYTES // 2**20} MiB, which plans never are; get it again")
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except _Foreign as error:
        raise ModelError(f"{path} holds {error}, which plans do not need; do not use this file") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); the model folder is incomplete") from error
    except _DAMAGE as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}); get it again from its publisher") from error


# What pickle raises on bytes that are not a program, and numpy on arguments that do not make an array.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
