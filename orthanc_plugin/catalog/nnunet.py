"""What a converted nnU-Net needs beside its graphs: preprocessing, tiling and the way back, as its plans state them.

These dataclasses are the schema of the card's `nnunet` section (pydantic reads and writes them as they stand). Axes are
those of the network's array after `transpose_forward`, mostly (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Framework(StrEnum):
    """Whose rules hold: the order of preprocessing, what is averaged and what is resampled differ (v1, v2)."""

    V1 = "nnunet-v1"
    V2 = "nnunet-v2"


class Scheme(StrEnum):
    """Normalisation: CT clips to percentiles and takes mean and sd of the training set, ZSCORE those of the image."""

    CT = "ct"
    ZSCORE = "zscore"
    NONE = "none"


class Precision(StrEnum):
    """Number format of weights and activations in the graph; inputs and outputs are float32 either way."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """HU to network units. low_hu, high_hu: percentiles 0.5 and 99.5 of the training foreground; mean, sd in HU."""

    scheme: Scheme
    low_hu: float
    high_hu: float
    mean_hu: float
    sd_hu: float
    use_mask: bool = False


@dataclass(frozen=True, slots=True)
class Resampling:
    """Spline orders in the plane and across it; `force_separate_z` None decides by anisotropy (ratio above 3)."""

    order: int
    order_z: int = 0
    force_separate_z: bool | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network with its folds.

    name: `2d`, `3d_lowres`, `3d_fullres` or `3d_cascade_fullres` (others as v2 plans name them).
    graphs: one ONNX file a fold; their outputs are averaged, softmax (v1) or logits (v2).
    transpose_forward, transpose_backward: axes of (z, y, x) to the network's and back.
    spacing_mm: target, network axes; the first is None for 2d (slices are kept).
    patch_size: network axes; two numbers for 2d.
    mirror_axes: axes of the patch that test-time mirroring may reverse; empty: no mirroring.
    tile_step: step of the sliding window as a part of the patch.
    heads: channels of the network's output.
    previous: the first stage of a cascade; its labels enter one-hot after the CT.
    """

    name: str
    framework: Framework
    graphs: tuple[str, ...]
    transpose_forward: tuple[int, int, int]
    transpose_backward: tuple[int, int, int]
    spacing_mm: tuple[float | None, float, float]
    patch_size: tuple[int, ...]
    normalisation: Normalisation
    data_resampling: Resampling
    output_resampling: Resampling
    mirror_axes: tuple[int, ...]
    tile_step: float
    heads: int
    previous: Previous | None = None

    @property
    def planar(self) -> bool:
        """Whether the network sees one slice at a time (2d)."""
        return len(self.patch_size) == 2


@dataclass(frozen=True, slots=True)
class LargestComponent:
    """v1 postprocessing: of each group of labels together keep the largest component(s), 6-neighbour connectivity.

    numbers: labels of the network (not of the card) that are joined.
    smaller_than_mm3: smaller components go only if below this size; None: all but the largest go.
    """

    numbers: tuple[int, ...]
    smaller_than_mm3: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One complete nnU-Net model: configurations whose probabilities are averaged, and what its labels are.

    numbers: card label number of each head; for argmax the first is 0 (background). With `regions`, heads are sigmoid
        masks, painted in this order, later over earlier. 0 leaves a label out.
    """

    configurations: tuple[Configuration, ...]
    numbers: tuple[int, ...]
    regions: bool = False
    postprocessing: tuple[LargestComponent, ...] = ()


@dataclass(frozen=True, slots=True)
class Previous:
    """The first stage of a cascade.

    part: the low-resolution model, with postprocessing of its own.
    order: spline order that brings its labels to the next stage's grid (v1: 1; v2: of resampling_fn_seg).
    """

    part: Part
    order: int = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """TotalSegmentator's own resampling around nnU-Net: isotropic, cut to whole HU; labels come back by order 0."""

    spacing_mm: float
    order: int = 1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was converted: its path in the published folder, and its SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NnunetModel:
    """The `nnunet` section of a card. parts: run one after the other; labels of later parts win."""

    parts: tuple[Part, ...]
    precision: Precision
    source: tuple[SourceFile, ...]
    frame: Frame | None = None
