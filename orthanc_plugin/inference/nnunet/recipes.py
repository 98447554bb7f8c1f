"""Small ONNX graphs for the work around a network, so that it runs on the network's device.

ONNX Runtime runs them on a GPU or the CPU. They do the arithmetic of `window`, `restore`, `members` and `resample`
in the same order; so on the CPU they give the same values as those modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_OPSET, _IR = 18, 9
_TINY = float(np.finfo(np.float32).tiny)


class Recipe:
    """A graph under construction."""

    def __init__(self, **inputs: type) -> None:
        from onnx import helper

        self._helper = helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs = [self._value(name, kind) for name, kind in inputs.items()]

    def _value(self, name: str, kind: type) -> Any:
        return self._helper.make_tensor_value_info(name, self._helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its first output."""
        name = f"v{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.int64) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def number(self, value: float) -> str:
        """Add a float32."""
        return self.constant(value, np.float32)

    def gather(self, values: str, *axes: tuple[str, int]) -> str:
        """Take indices along some axes."""
        for index, axis in axes:
            values = self("Gather", values, index, axis=axis)
        return values

    def cut(self, values: str, start: str, stop: str, axis: int) -> str:
        """Take a range along an axis."""
        return self("Slice", values, start, stop, self.constant([axis]))

    def widen(self, values: str, *axes: int) -> str:
        """Add axes of length 1."""
        return self("Unsqueeze", values, self.constant(axes))

    def finish(self, **outputs: tuple[str, type]) -> bytes:
        """Name the outputs, and return the graph as an ONNX file."""
        for name, (value, _) in outputs.items():
            self._nodes.append(self._helper.make_node("Identity", [value], [name]))
        found = [self._value(name, kind) for name, (_, kind) in outputs.items()]
        graph = self._helper.make_graph(self._nodes, "recipe", self._inputs, found, self._constants)
        opset = self._helper.make_opsetid("", _OPSET)
        return bytes(self._helper.make_model(graph, opset_imports=[opset], ir_version=_IR).SerializeToString())


def pick() -> bytes:
    """Cut tiles of one row out of `volume` (C, z, y, x): `z`, `y` (n,), `x` (T, n) to `tiles` (T, C, z, y, x)."""
    make = Recipe(volume=np.float32, z=np.int64, y=np.int64, x=np.int64)
    tiles = make.gather("volume", ("z", 1), ("y", 2), ("x", 3))
    return make.finish(tiles=(make("Transpose", tiles, perm=[3, 0, 1, 2, 4]), np.float32))


def gather_pass(activation: str, decided: str) -> bytes:
    """Add one pass to `joint`: activate `values` (T, heads, z, y, x), turn them back, exchange mirrored heads.

    Parameters
    ----------
    activation : str
        Softmax, Sigmoid or nothing.
    decided : str
        "labels" or "regions" to give `decided` too, what this pass decides; nothing for a single pass.
    """
    make = Recipe(joint=np.float32, values=np.float32, heads=np.int64, z=np.int64, y=np.int64, x=np.int64)
    values = make(activation, "values", **({"axis": 1} if activation == "Softmax" else {})) if activation else "values"
    values = make.gather(values, ("heads", 1), ("z", 2), ("y", 3), ("x", 4))
    outputs: dict[str, tuple[str, type]] = {"total": (make("Add", "joint", values), np.float32)}
    if decided:
        outputs["decided"] = _decided(make, values, decided, make.number(0.5 if activation == "Sigmoid" else 0.0))
    return make.finish(**outputs)


def _decided(make: Recipe, values: str, how: str, threshold: str) -> tuple[str, type]:
    """Decide (T, heads, z, y, x): labels (T, 1, z, y, x), or masks."""
    if how == "regions":
        return make("Greater", values, threshold), np.bool_
    return make("ArgMax", values, axis=1), np.int64


def add(tiles: int) -> bytes:
    """Add `joint` (T, heads, z, y, x), weighted by the shares, to `total` (heads, z, y, x).

    `pads`, (T, 8): zeros around each tile. `share`, (T, 1, z, y, x): its weights.
    """
    make = Recipe(
        total=np.float32, joint=np.float32, z=np.float32, y=np.float32, x=np.float32, count=np.float32, pads=np.int64
    )
    plane = make("Mul", make.widen("z", 1, 2), make.widen("y", 1))
    share = make("Div", make("Mul", make.widen(plane, 0, 1), make.widen("x", 1, 2, 3)), "count")
    weighted = make("Mul", "joint", share)
    padded = [
        make("Pad", make("Gather", weighted, make.constant(n)), make("Gather", "pads", make.constant(n)))
        for n in range(tiles)
    ]
    together = padded[0]
    for each in padded[1:]:
        together = make("Add", together, each)
    return make.finish(sum=(make("Add", "total", together), np.float32), share=(share, np.float32))


def slide() -> bytes:
    """Take `done` slices off `total` (heads, z, y, x), after `carry`, the last slice of before.

    Gives `planes` (heads, 1 + done, y, x), the new `total` and `carry`, and `check`, which is finite if all values are.
    """
    make = Recipe(total=np.float32, carry=np.float32, done=np.int64)
    start, end = make.constant([0]), make.constant([2**31 - 1])
    planes = make("Concat", "carry", make.cut("total", start, "done", 1), axis=1)
    nothing = make.constant([0] * 5)
    pads = make("Concat", nothing, "done", make.constant([0, 0]), axis=0)
    rest = make("Pad", make.cut("total", "done", end, 1), pads)
    last = make.cut(planes, make.constant([-1]), end, 1)
    check = make("ReduceSum", planes, keepdims=0)
    return make.finish(
        planes=(planes, np.float32), rest=(rest, np.float32), last=(last, np.float32), check=(check, np.float32)
    )


def decide(heads: int, threshold: float | None) -> bytes:
    """Interpolate `planes` (heads, z, y, x) at the taps of three axes, and decide: `labels` (z, y, x) uint8.

    The labels are those of `restore`: the first of the highest heads; with a threshold, the last head above it.
    """
    axes = ("z", "y", "x")
    kinds = {f"{axis}_{part}": np.int64 for axis in axes for part in ("low", "high")}
    make = Recipe(planes=np.float32, **kinds, **{f"{axis}_weight": np.float32 for axis in axes})
    weight = make.widen("z_weight", 1, 2)
    rest = make("Sub", make.number(1.0), weight)

    def value(head: int) -> str:
        plane = make("Gather", "planes", make.constant(head))
        low, high = make("Gather", plane, "z_low"), make("Gather", plane, "z_high")
        plane = make("Add", make("Mul", low, rest), make("Mul", high, weight))
        for axis, name, along in ((2, "x", "x_weight"), (1, "y", make.widen("y_weight", 1))):
            low, high = (make("Gather", plane, f"{name}_{end}", axis=axis) for end in ("low", "high"))
            plane = make("Add", low, make("Mul", make("Sub", high, low), along))
        return plane

    first = value(0)
    best = first if threshold is None else make.number(threshold)
    zero, one = make.constant(0, np.uint8), make.constant(1, np.uint8)
    over = make("Greater", first, best)  # of a head with itself: nowhere
    labels = make("Where", over, zero if threshold is None else one, zero)
    for head in range(1, heads):
        found = value(head)
        number = make.constant(head if threshold is None else head + 1, np.uint8)
        labels = make("Where", make("Greater", found, best), number, labels)
        best = make("Max", best, found) if threshold is None else best
    return make.finish(labels=(labels, np.uint8))


def agree(heads: int, regions: bool) -> bytes:
    """Count how far a member's `decided` agrees with `joint`, weighted by `share`; see `members`.

    `both` and `sizes`, (heads,) float64, are the sums so far.
    """
    kind = np.bool_ if regions else np.int64
    make = Recipe(decided=kind, joint=kind, share=np.float32, both=np.float64, sizes=np.float64)
    both, sizes = [], []
    for head in range(heads):
        ours, theirs = (_mask(make, name, head, regions) for name in ("joint", "decided"))
        both.append(_weight(make, make("And", ours, theirs), "share"))
        sizes.append(make("Add", _weight(make, ours, "share"), _weight(make, theirs, "share")))
    return make.finish(
        both_sum=(make("Add", "both", _column(make, both)), np.float64),
        sizes_sum=(make("Add", "sizes", _column(make, sizes)), np.float64),
    )


def doubt(heads: int, regions: bool, logits: bool) -> bytes:
    """Decide `total` / `count` (T, heads, z, y, x) as `joint`, and sum the entropy at the borders; see `members`.

    `doubt` and `border`, (heads,) float64, are the sums so far.
    """
    make = Recipe(total=np.float32, count=np.float32, share=np.float32, doubt=np.float64, border=np.float64)
    mean = make("Div", "total", "count")
    threshold = make.number(0.0 if logits else 0.5)
    joint, kind = _decided(make, mean, "regions" if regions else "labels", threshold)
    bits = _entropy(make, mean, regions, logits)
    doubts, borders = [], []
    for head in range(heads):
        border = _border(make, _mask(make, joint, head, regions))
        here = make.gather(bits, (make.constant([head]), 1)) if regions else bits
        doubts.append(_weight(make, border, make("Mul", here, "share")))
        borders.append(_weight(make, border, "share"))
    return make.finish(
        joint=(joint, kind),
        doubt_sum=(make("Add", "doubt", _column(make, doubts)), np.float64),
        border_sum=(make("Add", "border", _column(make, borders)), np.float64),
    )


def _entropy(make: Recipe, mean: str, regions: bool, logits: bool) -> str:
    """Entropy in bits: of each head of regions, else of all heads together."""
    activation = "Sigmoid" if regions else "Softmax"
    chance = make(activation, mean, **({} if regions else {"axis": 1})) if logits else mean
    nats = _surprise(make, chance)
    if regions:
        nats = make("Add", nats, _surprise(make, make("Sub", make.number(1.0), chance)))
    else:
        nats = make("ReduceSum", nats, make.constant([1]))
    return make("Div", nats, make.number(np.log(2)))


def _surprise(make: Recipe, chance: str) -> str:
    return make("Neg", make("Mul", chance, make("Log", make("Max", chance, make.number(_TINY)))))


def _mask(make: Recipe, decided: str, head: int, regions: bool) -> str:
    """Where a head was decided, (T, 1, z, y, x)."""
    if regions:
        return make.gather(decided, (make.constant([head]), 1))
    return make("Equal", decided, make.constant(head))


def _border(make: Recipe, mask: str) -> str:
    """Voxels of a mask with a neighbour (of 6) outside it."""
    outside = make("Cast", make("Not", mask), to=1)
    shapes = ([3, 1, 1], [1, 3, 1], [1, 1, 3])
    near = [make("MaxPool", outside, kernel_shape=k, pads=[n // 2 for n in k] * 2) for k in shapes]
    return make("And", mask, make("Greater", make("Max", *near), make.number(0.5)))


def _weight(make: Recipe, mask: str, weights: str) -> str:
    return make("ReduceSum", make("Where", mask, weights, make.number(0.0)), keepdims=0)


def _column(make: Recipe, sums: Sequence[str]) -> str:
    return make("Cast", make("Concat", *(make.widen(each, 0) for each in sums), axis=0), to=11)


def spline() -> bytes:
    """Multiply `image` (z, y, x) by the weights of three axes, each (new, old), and clip to `low` and `high`."""
    make = Recipe(**dict.fromkeys(("image", "z", "y", "x", "low", "high"), np.float32))
    values = make("Clip", _along_z(make, _in_plane(make)), "low", "high")
    return make.finish(out=(values, np.float32))


def planes_apart() -> bytes:
    """Do the same, with each plane clipped to its own range before the last axis."""
    make = Recipe(**dict.fromkeys(("image", "z", "y", "x"), np.float32))
    axes = make.constant([1, 2])
    low, high = (make(operator, "image", axes) for operator in ("ReduceMin", "ReduceMax"))
    values = make("Min", make("Max", _in_plane(make), low), high)
    return make.finish(out=(_along_z(make, values), np.float32))


def _in_plane(make: Recipe) -> str:
    return make("MatMul", make("MatMul", "y", "image"), make("Transpose", "x", perm=[1, 0]))


def _along_z(make: Recipe, values: str) -> str:
    shape = make("Shape", values)
    flat = make("Reshape", values, make.constant([0, -1]))
    sides = make.cut(shape, make.constant([1]), make.constant([3]), 0)
    return make("Reshape", make("MatMul", "z", flat), make("Concat", make.constant([-1]), sides, axis=0))
