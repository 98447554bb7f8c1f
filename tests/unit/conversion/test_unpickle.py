"""Untrusted pickles: what plans need is read, anything else is refused by name and never run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.conversion import unpickle
from orthanc_plugin.conversion.unpickle import read_pickle
from orthanc_plugin.errors import ModelError

PLANS = OrderedDict(
    num_classes=4,
    mean=np.float64(-102.5),
    count=np.int64(7),
    patch_size=np.array([64.0, 192.0, 160.0]),
    names=np.array(["a", "bc"]),
    mixed=np.array([(1, 2), "x", None], object),
    stages={0: [[1, 2, 2], (2, 2, 2)]},
    flag=True,
)


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_plans_are_read_as_they_were_written(protocol: int, tmp_path: Path) -> None:
    found = read_pickle(write(tmp_path / "plans.pkl", PLANS, protocol))
    assert isinstance(found, OrderedDict)
    assert list(found) == list(PLANS)
    for key, value in PLANS.items():
        assert isinstance(found[key], type(value))
        assert np.array_equal(found[key], value)


def test_files_of_numpy_1_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "plans.pkl", PLANS, 2)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"numpy._core" not in path.read_bytes()
    found = read_pickle(path)
    assert isinstance(found, OrderedDict)
    assert np.array_equal(found["patch_size"], PLANS["patch_size"])


class Command:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}",), "posix.system"),
        (eval, ("open({!r}, 'w')",), "builtins.eval"),
        (exec, ("open({!r}, 'w')",), "builtins.exec"),
        (getattr, ("{}", "upper"), "builtins.getattr"),
        (Path, ("{}",), "pathlib"),
        (np.load, ("{}",), "numpy.load"),
        (np.fromfile, ("{}",), "numpy"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_anything_else_is_refused_by_name_and_does_not_run(
    function: Any, arguments: tuple[str, ...], name: str, nested: bool, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    command: Any = Command(function, *(argument.format(mark) for argument in arguments))
    content = {"plans": [PLANS, {"deep": (1, [command])}]} if nested else command
    path = write(tmp_path / "plans.pkl", content)
    with pytest.raises(ModelError, match=rf"plans\.pkl holds {name}"):
        read_pickle(path)
    assert not mark.exists()


class Forged:
    """A numpy type whose flags deny that its 8 bytes are a pointer to an object: reading it follows any address."""

    def __init__(self, kind: str) -> None:
        state = (3, "<", None, ("a",), {"a": (np.dtype(object), 0)}, 8, 1, 0)
        self.call = (np.dtype, (kind, False, True), state)

    def __reduce__(self) -> Any:
        return self.call


def forged(kind: str) -> tuple[Command, Command]:
    """A scalar and an array of a forged type."""
    scalar, array = Command(np.float64(0).__reduce__()[0], Forged(kind), bytes(8)), Command(None)
    array.call = (np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (1,), Forged(kind), False, bytes(8)))
    return scalar, array


@pytest.mark.parametrize("kind", ["V8", "O", "i4,O"])
def test_numpy_types_that_hold_pointers_are_not_made_of_bytes(kind: str, tmp_path: Path) -> None:
    for content in forged(kind):
        with pytest.raises(ModelError, match=r"plans\.pkl is damaged"):
            read_pickle(write(tmp_path / "plans.pkl", content))


def test_fields_that_a_file_gives_to_a_number_are_ignored(tmp_path: Path) -> None:
    for content in forged("f8"):
        found: Any = read_pickle(write(tmp_path / "plans.pkl", content))
        assert found.dtype.names is None
        assert found == 0


@pytest.mark.parametrize("codec", ["rot13", "zlib", "unicode_escape"])
def test_only_numpys_own_codec_is_allowed(codec: str, tmp_path: Path) -> None:
    program = f"c_codecs\nencode\n(X\x01\x00\x00\x00aX{chr(len(codec))}\x00\x00\x00{codec}tR.".encode()
    (tmp_path / "plans.pkl").write_bytes(program)
    with pytest.raises(ModelError, match=r"plans\.pkl is damaged"):
        read_pickle(tmp_path / "plans.pkl")


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"no pickle",
        pickle.dumps(PLANS)[:-20],
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntc_codecs\nencode\n(Vb\nVlatin1\ntRtR.",
        b"cnumpy\ndtype\n(Vno type\ntR.",
        b"\x80\x04\x82\x01.",
        b"Pid\n.",
    ],
)
def test_damaged_files_are_named(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "plans.pkl").write_bytes(program)
    with pytest.raises(ModelError, match=r"plans\.pkl is damaged"):
        read_pickle(tmp_path / "plans.pkl")


def test_large_and_missing_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_pickle(tmp_path / "plans.pkl")
    monkeypatch.setattr(unpickle, "MOST_BYTES", 10)
    with pytest.raises(ModelError, match="larger than"):
        read_pickle(write(tmp_path / "plans.pkl", PLANS))
