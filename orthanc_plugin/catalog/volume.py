"""What the engine `volume` needs to run any ONNX network: how the CT goes in, and what its outputs mean.

These dataclasses are the schema of the card's `volume` section; pydantic reads and writes them. Axes are those of the
card, e.g. (z, y, x). The graph takes (N, channels, *sides) float32 and gives (N, outputs, *sides) float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from orthanc_plugin.catalog.graph import Ends
from orthanc_plugin.errors import ModelError

_MOST_SIDE = 4096
_MOST_OVERLAP = 0.95
_MOST_LEVEL, _LEAST_SPAN = 1e6, 1e-3
FLOATS = {1: "float32", 10: "float16"}
"""Element types of onnx.proto in which an image may enter a network; outputs are read as float32."""
_ELEMENTS = FLOATS | {
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    11: "float64",
    16: "bfloat16",
}


class Layout(StrEnum):
    """What the network sees at once: a slice, a slice with its neighbours as channels, or a block."""

    SLICE = "2d"
    SLAB = "2.5d"
    VOLUME = "3d"


class Scheme(StrEnum):
    """How HU become network units."""

    WINDOW = "window"
    """low_hu to high_hu become low to high; values beyond are clipped."""
    ZSCORE = "zscore"
    """Clipped to low_hu to high_hu, then (HU - mean) / sd; of the image where the card gives no mean and sd."""
    RANGE = "range"
    """Clipped to low_hu to high_hu, then the lowest to the highest value of the image become low to high."""
    NONE = "none"


class Values(StrEnum):
    """What the outputs are, and how they become labels."""

    LOGITS = "logits"
    """The highest output wins."""
    SOFTMAX = "softmax"
    """Probabilities; the highest wins."""
    SIGMOID = "sigmoid"
    """Probabilities of independent masks; those above the threshold are painted, later over earlier."""
    SIGMOID_LOGITS = "sigmoid-logits"
    """The same before the sigmoid."""
    HEATMAPS = "heatmaps"
    """One landmark an output: a ball around its highest voxel, if that reaches the threshold."""


class Blending(StrEnum):
    """How outputs of overlapping patches are averaged."""

    GAUSSIAN = "gaussian"
    """The middle of a patch counts most."""
    UNIFORM = "uniform"
    """All voxels of a patch count alike."""


class Placing(StrEnum):
    """Where patches lie."""

    EVEN = "even"
    """Evenly spread, at most the step apart, as nnU-Net places them."""
    FIXED = "fixed"
    """The step apart, the last one moved back to the edge, as MONAI places them; a small image lies in the middle."""


class Padding(StrEnum):
    """What lies beyond the edge of an image that is smaller than what enters the network."""

    EDGE = "edge"
    """The values at the edge."""
    ZERO = "zero"
    """0 in network units."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """HU to network units, see `Scheme`.

    low, high: of a window or a range; mean, sd: in HU, both or none.
    nonzero: voxels of exactly 0 HU get the mean of the others, and have no part in the image's mean and sd.
    """

    scheme: Scheme
    low_hu: float = -1024.0
    high_hu: float = 3071.0
    low: float = 0.0
    high: float = 1.0
    mean: float | None = None
    sd: float | None = None
    nonzero: bool = False


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Postprocessing of one label.

    largest: only its largest component stays; least_ml: smaller components go. neighbours: of a voxel, 6, 18 or 26.
    """

    number: int
    largest: bool = False
    least_ml: float = 0.0
    neighbours: Literal[6, 18, 26] = 6


@dataclass(frozen=True, slots=True)
class VolumeModel:
    """The `volume` section of a card.

    input, output: names in the graph.
    layout: see `Layout`. slices: how many slices a slab has; odd, the middle one is labelled.
    spacing_mm: to which the CT is resampled (order 1); null for an axis that stays.
    patch_size: sides of what enters the network, two for slices and slabs; null for the whole image.
    overlap, blending, placing: of neighbouring patches; the overlap is a fraction of the patch.
    multiple_of: the whole image is padded to multiples of it. padding: see `Padding`.
    resize: rows and columns to which each slice is brought instead of a spacing.
    numbers: the card's label number of each output; 0 for the background and for outputs that are left out.
    threshold: of sigmoids and heatmaps. radius_mm: of the ball around a landmark.
    """

    input: str
    output: str
    layout: Layout
    intensity: Intensity
    values: Values
    numbers: tuple[int, ...]
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    patch_size: tuple[int, ...] | None = None
    overlap: float = 0.5
    blending: Blending = Blending.GAUSSIAN
    placing: Placing = Placing.EVEN
    padding: Padding = Padding.EDGE
    multiple_of: int = 1
    resize: tuple[int, int] | None = None
    slices: int = 1
    threshold: float = 0.5
    radius_mm: float = 5.0
    cleaning: tuple[Cleaning, ...] = ()

    @property
    def planar(self) -> bool:
        """Whether the network sees one slice at a time."""
        return self.layout is not Layout.VOLUME


def problems(model: VolumeModel, graphs: Collection[str], numbers: Collection[int]) -> Iterator[str]:
    """Find contradictions within the `volume` section of a card, and between it and the rest of the card."""
    if len(graphs) != 1:
        yield f"graphs: engine volume has one graph, not {len(graphs)}"
    named = [number for number in model.numbers if number]
    if sorted(named) != sorted(numbers):
        yield f"volume.numbers: {list(model.numbers)} must name each of the labels {sorted(numbers)} once"
    for key, wrong, allowed in _rules(model):
        if wrong:
            yield f"volume.{key}: must be {allowed}"
    for rule in model.cleaning:
        if rule.number not in numbers or not _within(rule.least_ml, 0.0, 1e6):
            yield "volume.cleaning: must name labels of the card, and volumes of 0 mL or more"


def _rules(model: VolumeModel) -> Iterator[tuple[str, bool, str]]:
    how, patch = model.intensity, model.patch_size
    levels = (how.low_hu, how.high_hu, how.low, how.high)
    yield "input", not (model.input and model.output and model.input != model.output), "a name, as must output"
    levels_known = all(_within(level, -_MOST_LEVEL, _MOST_LEVEL) for level in levels)
    yield "intensity", not levels_known, f"finite numbers of {-_MOST_LEVEL:.0f} to {_MOST_LEVEL:.0f}"
    spans = (how.high_hu - how.low_hu, how.high - how.low)
    yield "intensity", not all(span >= _LEAST_SPAN for span in spans), f"low below high, by {_LEAST_SPAN} or more"
    yield "intensity", (how.mean is None) != (how.sd is None), "mean and sd together, or neither"
    if how.mean is not None and how.sd is not None:
        yield (
            "intensity",
            not (_within(how.mean, -_MOST_LEVEL, _MOST_LEVEL) and _within(how.sd, 1e-3, 1e5)),
            "a finite mean and an sd above 0",
        )
    yield (
        "spacing_mm",
        any(mm is not None and not _within(mm, 0.1, 50.0) for mm in model.spacing_mm),
        "0.1 to 50 or null",
    )
    sides = 2 if model.planar else 3
    wrong = patch is not None and (len(patch) != sides or not all(1 <= side <= _MOST_SIDE for side in patch))
    yield "patch_size", wrong, f"null, or {sides} sides of 1 to {_MOST_SIDE}"
    yield "overlap", not 0 <= model.overlap <= _MOST_OVERLAP, f"0 to {_MOST_OVERLAP}"
    yield "multiple_of", not 1 <= model.multiple_of <= 512, "1 to 512"
    resized = model.resize is not None and not all(1 <= side <= _MOST_SIDE for side in model.resize)
    yield "resize", resized, f"null, or two sides of 1 to {_MOST_SIDE}"
    both = model.resize is not None and any(mm is not None for mm in model.spacing_mm[1:])
    yield "resize", both, "null where spacing_mm gives the spacing in the slice"
    slab = model.layout is Layout.SLAB
    yield (
        "slices",
        not (3 <= model.slices <= 63 and model.slices % 2 if slab else model.slices == 1),
        ("odd and 3 to 63 for layout 2.5d, else 1"),
    )
    probabilities = model.values is not Values.HEATMAPS
    yield (
        "threshold",
        not (0 < model.threshold < 1 if probabilities else _within(model.threshold, -_MOST_LEVEL, _MOST_LEVEL)),
        f"above 0 and below 1 (for heatmaps {-_MOST_LEVEL:.0f} to {_MOST_LEVEL:.0f})",
    )
    yield "radius_mm", not _within(model.radius_mm, 0.5, 100.0), "0.5 to 100"


def _within(value: float, low: float, high: float) -> bool:
    return low <= value <= high  # false for NaN


def check_ends(model: VolumeModel, ends: Ends) -> None:
    """Compare input and output of the graph with the section; a side that is free in the graph fits any.

    Raises
    ------
    ModelError
        Naming what the graph has and what the card says.
    """
    sides: tuple[int | None, ...] = model.patch_size or model.resize or ((None,) * (2 if model.planar else 3))
    if not model.planar and len(sides) == 2:
        sides = (None, *sides)
    for kind, found, name, channels in (
        ("input", ends.inputs, model.input, model.slices),
        ("output", ends.outputs, model.output, len(model.numbers)),
    ):
        wanted = (None, channels, *sides)
        match found:
            case [(there, element, shape)] if there == name and element in FLOATS and _fit(shape, wanted):
                _refuse_fixed(model, kind, shape, wanted)
                continue
        there = ", ".join(
            f"{end} {_ELEMENTS.get(element, 'of another type')} {_shown(shape)}" for end, element, shape in found
        )
        raise ModelError(f"{kind} of the graph is {there:.160}; its card says {name} float32 {_shown(wanted)}")


def _refuse_fixed(model: VolumeModel, kind: str, shape: Sequence[int | None], wanted: Sequence[int | None]) -> None:
    """Refuse sides that the graph fixes and the card leaves open: images differ in size."""
    fixed = [side for side, open_ in zip(shape[2:], wanted[2:], strict=True) if side is not None and open_ is None]
    if fixed:
        key = "patch_size, or resize," if model.planar else "patch_size"
        raise ModelError(f"{kind} of the graph has fixed sides {_shown(shape[2:])}; give them as {key} in its card")


def _fit(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    if len(shape) != len(wanted) or shape[0] not in (None, 1):
        return False
    return all(
        side is None or other is None or side == other for side, other in zip(shape[1:], wanted[1:], strict=True)
    )


def _shown(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
