"""Check the ONNX file of a converted network: it is self-contained and has one named input and one named output.

A file that keeps values in other files is refused: a card's digest does not cover those, and not every ONNX Runtime
refuses absolute paths, `..` and links. This module reads the protobuf wire format itself, so it needs neither `onnx`
nor a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orthanc_plugin.errors import ModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INPUT, _OUTPUT = 7, 11, 12
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_PARTS: dict[str, dict[int, str]] = {
    "model": {_GRAPH: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""Fields of onnx.proto through which a tensor is reached."""

Field = tuple[int, "int | memoryview"]
_End = tuple[str, int, tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class GraphShape:
    """Input (N, channels, *patch_size) and output (N, heads, *patch_size); any N."""

    channels: int
    heads: int
    patch_size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """Inputs and outputs of a graph: name, element type of onnx.proto, sides (None where free)."""

    inputs: list[_End]
    outputs: list[_End]


def ends_of(path: Path) -> Ends:
    """Read inputs and outputs of a self-contained ONNX file.

    Raises
    ------
    ModelError
        If the file is not ONNX, keeps values in other files, or has no input or no output.
    """
    inputs, outputs = _ends(path)
    if not inputs or not outputs:
        raise ModelError(f"{path} is not an ONNX file with an input and an output; install the model again")
    return Ends(inputs, outputs)


def check_chest_graph(path: Path) -> None:
    """Check the ONNX file of the built-in engine before anything loads it.

    Raises
    ------
    ModelError
        As `ends_of`, or if it does not have one float input `hu` and one uint8 output `labels`.
    """
    ends = ends_of(path)
    if [end[:2] for end in ends.inputs] != [("hu", 1)] or [end[:2] for end in ends.outputs] != [("labels", 2)]:
        raise ModelError(f"{path} is not a graph of engine classical-chest; build the model again")


def check_graph(path: Path) -> GraphShape:
    """Check the ONNX file of one fold before anything loads it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    GraphShape
        To compare with the card.

    Raises
    ------
    ModelError
        If the file is not ONNX, keeps values in other files, or does not have one float input `image` (N, C, *patch)
        and one float output `logits` (N, heads, *patch), with N free and two or three patch axes.

    Source
    ------
    onnx.proto of ONNX 1.23, and the protobuf encoding.
    """
    inputs, outputs = _ends(path)
    match inputs, outputs:
        case [("image", 1, (None, int(channels), *patch))], [("logits", 1, (None, int(heads), *same))]:
            if patch == same and len(patch) in (2, 3) and all(patch) and channels and heads:
                return GraphShape(channels, heads, tuple(side for side in patch if side))
    ends = f"{inputs} -> {outputs}"
    raise ModelError(f"{path} is not an nnU-Net graph but {ends:.160}; convert the model again")


def check_bpr_graph(path: Path) -> int:
    """Check the ONNX file of a body part regression before anything loads it; return the side of its slices.

    Raises
    ------
    ModelError
        As `check_graph`; the input is float `slices` (N, 1, size, size), the output float `scores` (N, 1).
    """
    inputs, outputs = _ends(path)
    match inputs, outputs:
        case [("slices", 1, (None, 1, int(size), int(same)))], [("scores", 1, (None, 1))] if size == same > 0:
            return size
    ends = f"{inputs} -> {outputs}"
    raise ModelError(f"{path} is not a graph of a body part regression but {ends:.160}; convert the model again")


def _ends(path: Path) -> tuple[list[_End], list[_End]]:
    """Read inputs and outputs of a self-contained file; 1 is float32 among onnx.proto's element types."""
    try:
        model = memoryview(path.read_bytes())
        if any(_is_external(tensor) for tensor in _tensors(model)):
            raise ModelError(
                f"{path} keeps values in other files, which the digest does not cover; convert the model again"
            )
        graphs = [value for number, value in _fields(model) if number == _GRAPH and isinstance(value, memoryview)]
        inputs, outputs = (
            [_value(info) for graph in graphs for number, info in _fields(graph) if number == end]
            for end in (_INPUT, _OUTPUT)
        )
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); install the model again") from error
    except (IndexError, TypeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not an ONNX file, or is damaged; install the model again") from error
    return inputs, outputs


def _tensors(model: memoryview) -> Iterator[memoryview]:
    """Yield every tensor of a model, including those of attributes, subgraphs and functions."""
    waiting = [("model", model)]
    while waiting:
        kind, message = waiting.pop()
        if kind == "tensor":
            yield message
            continue
        parts = _PARTS[kind]
        waiting += [(parts[number], _message(value)) for number, value in _fields(message) if number in parts]


def _is_external(tensor: memoryview) -> bool:
    return any(number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value) for number, value in _fields(tensor))


def _value(info: int | memoryview) -> _End:
    """Read name, element type and sides of a graph's input or output; a side without a number is None."""
    name, shape = "", memoryview(b"")
    element = 0
    for number, value in _fields(_message(info)):
        if number == 1:
            name = bytes(_message(value)).decode()
        elif number == 2:
            for _, tensor_type in _fields(_message(value)):
                for key, part in _fields(_message(tensor_type)):
                    element = part if key == 1 and isinstance(part, int) else element
                    shape = part if key == 2 and isinstance(part, memoryview) else shape
    return name, element, tuple(_side(_message(side)) for _, side in _fields(shape))


def _side(dimension: memoryview) -> int | None:
    return next((value for number, value in _fields(dimension) if number == 1 and isinstance(value, int)), None)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield number and value of each field of one protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key >> 32:  # protobuf cuts it to 32 bits and would read a different field
            raise TypeError("an unknown field number")
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif not size:
            raise TypeError("an unknown wire type")
        if at + size > len(message):
            raise IndexError("a field beyond the end")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError("a number without an end")
