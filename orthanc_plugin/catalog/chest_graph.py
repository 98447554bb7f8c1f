"""The graph of chest_structures: classical morphology written as ONNX, with constants only, for any volume size.

On a coarse grid, it tells apart outside, body, lung, other air and bone. The engine finds the structures in that map
and places their borders at full resolution. Building the graph needs `onnx` (extra `build`); running it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orthanc_plugin.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

AIR_HU = -320.0
BONE_HU = 200.0
OUTSIDE, BODY, LUNG, AIR, BONE = range(5)
"""Codes of the output."""

_TURNS = 200
_DILATIONS_A_TURN = 6
_CUBE, _IN_PLANE = (3, 3, 3), (1, 3, 3)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ModelError("building a model needs onnx: pip install orthanc-enrichment[build]") from error
    return onnx


class _Graph:
    """A list of nodes; each operation appends one and returns the name of its output."""

    def __init__(self, prefix: str = "t") -> None:
        self.onnx = _onnx()
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self._constants: dict[str, str] = {}

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def ints(self, *values: int) -> str:
        return self._constant(self.onnx.TensorProto.INT64, [len(values)], values)

    def number(self, value: float) -> str:
        return self._constant(self.onnx.TensorProto.FLOAT, [], [value])

    def _constant(self, kind: int, shape: list[int], values: object) -> str:
        key = f"{kind}{values}"
        if key not in self._constants:
            tensor = self.onnx.helper.make_tensor("value", kind, shape, values)
            self._constants[key] = self.op("Constant", value=tensor)
        return self._constants[key]

    def where(self, comparison: str, x: str, limit: float) -> str:
        return self.op("Cast", self.op(comparison, x, self.number(limit)), to=self.onnx.TensorProto.FLOAT)

    def invert(self, x: str) -> str:
        return self.op("Sub", self.number(1.0), x)

    def both(self, x: str, y: str) -> str:
        return self.op("Mul", x, y)

    def dilate(self, x: str, times: int = 1, within: str = "", kernel: tuple[int, int, int] = _CUBE) -> str:
        pads = [size // 2 for size in kernel] * 2
        for _ in range(times):
            x = self.op("MaxPool", x, kernel_shape=list(kernel), strides=[1, 1, 1], pads=pads)
            x = self.both(x, within) if within else x
        return x

    def erode(self, x: str, times: int = 1) -> str:
        return self.invert(self.dilate(self.invert(x), times))

    def frame(self, like: str) -> str:
        """Make a mask of the in-plane border, one voxel wide."""
        inside = self.op("Slice", like, self.ints(1, 1), self.ints(-1, -1), self.ints(3, 4))
        return self.op(
            "Pad", self.both(inside, self.number(0.0)), self.ints(0, 0, 0, 1, 1, 0, 0, 0, 1, 1), self.number(1.0)
        )

    def flood(self, seed: str, region: str, kernel: tuple[int, int, int]) -> str:
        """Reconstruct the seed within the region: dilate until the sum stops growing."""
        info, make, proto = self.onnx.helper.make_tensor_value_info, self.onnx.helper, self.onnx.TensorProto
        name, turns, start = f"flood{len(self.nodes)}", self.ints(_TURNS), self.number(-1.0)
        turn = _Graph(f"{name}_")
        x, go, index, last = (f"{name}_{part}" for part in ("x", "go", "turn", "sum"))
        grown = turn.dilate(x, _DILATIONS_A_TURN, region, kernel)
        total = turn.op("ReduceSum", grown, keepdims=0)
        more = turn.op("Greater", total, last)
        inputs = [info(index, proto.INT64, []), info(go, proto.BOOL, []), info(x, proto.FLOAT, None)]
        outputs = [info(more, proto.BOOL, []), info(grown, proto.FLOAT, None), info(total, proto.FLOAT, [])]
        body = make.make_graph(turn.nodes, name, [*inputs, info(last, proto.FLOAT, [])], outputs)
        self.nodes.append(make.make_node("Loop", [turns, "", seed, start], [name, f"{name}_total"], body=body))
        return name


def _structures(graph: _Graph) -> str:
    """Add all nodes and return the name of the coded map that they make of the input `hu`."""
    tissue = graph.where("GreaterOrEqual", "hu", AIR_HU)
    # Opening removes table shells, blankets and cables, so that air behind them counts as outside.
    solid = graph.dilate(graph.erode(tissue), 2, tissue)
    free = graph.invert(solid)
    seed = graph.both(graph.frame(free), free)
    # In three dimensions, flood only through gaps of 9 mm and more: an open mouth must not drain the lungs.
    wide = graph.erode(free)
    through = graph.dilate(graph.flood(graph.both(seed, wide), wide, _CUBE), 1, free)
    outside = graph.flood(graph.op("Max", through, seed), free, _IN_PLANE)
    inside = graph.invert(outside)
    body = graph.dilate(graph.erode(inside, 2), 3, inside)
    air = graph.both(graph.where("Less", "hu", AIR_HU), body)
    lung = graph.dilate(graph.erode(air, 2), 4, air)
    closed = graph.both(graph.erode(graph.dilate(lung, 3), 3), body)
    bone = graph.both(graph.where("Greater", "hu", BONE_HU), body)
    coded = zip((body, closed, graph.both(air, graph.invert(closed)), bone), (BODY, LUNG, AIR, BONE), strict=True)
    return graph.op("Max", *(graph.both(mask, graph.number(float(code))) for mask, code in coded))


def chest_graph() -> ModelProto:
    """Build the graph.

    Returns
    -------
    ModelProto
        Input `hu`: float32, 1 x 1 x D x H x W (z:S, y:P, x:L), HU, voxels of about 3 mm, with an in-plane frame of air
        (of tissue where the body is cut). Output `labels`: uint8, same shape, the codes of this module.

    Raises
    ------
    ModelError
        If onnx is not installed.
    """
    graph = _Graph()
    helper, proto = graph.onnx.helper, graph.onnx.TensorProto
    labels = graph.op("Cast", _structures(graph), to=proto.UINT8)
    graph.nodes.append(helper.make_node("Identity", [labels], ["labels"]))
    shape = [1, 1, "depth", "height", "width"]
    described = helper.make_graph(
        graph.nodes,
        "chest_structures",
        [helper.make_tensor_value_info("hu", proto.FLOAT, shape)],
        [helper.make_tensor_value_info("labels", proto.UINT8, shape)],
    )
    model: ModelProto = helper.make_model(
        described, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name="orthanc-enrichment"
    )
    graph.onnx.checker.check_model(model, full_check=True)
    return model
