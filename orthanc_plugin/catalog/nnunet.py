"""What a converted nnU-Net needs beside its graphs: preprocessing, tiling and the way back, as its plans state them.

These dataclasses are the schema of the card's `nnunet` section; pydantic reads and writes them. Axes are those of the
network's array after `transpose_forward`, usually (z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Framework(StrEnum):
    """Which framework's rules apply: v1 and v2 differ in order of preprocessing, averaging and resampling."""

    V1 = "nnunet-v1"
    V2 = "nnunet-v2"


class Scheme(StrEnum):
    """Normalisation: CT clips to percentiles and uses mean and sd of the training set, ZSCORE those of the image."""

    CT = "ct"
    ZSCORE = "zscore"
    NONE = "none"


class Precision(StrEnum):
    """Number format of weights and activations in the graph; inputs and outputs are always float32."""

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
    """Spline orders in the plane and across it; with `force_separate_z` None, anisotropy decides (ratio above 3)."""

    order: int
    order_z: int = 0
    force_separate_z: bool | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network with its folds.

    name: `2d`, `3d_lowres`, `3d_fullres`, `3d_cascade_fullres` or another name from v2 plans.
    graphs: one ONNX file for each fold; their softmax (v1) or logits (v2) are averaged.
    transpose_forward, transpose_backward: axes of (z, y, x) to the network's and back.
    spacing_mm: target spacing, network axes; the first is None for 2d, which keeps the slices.
    patch_size: network axes; two numbers for 2d.
    mirror_axes: axes of the patch that test-time mirroring may reverse; empty for no mirroring.
    tile_step: step of the sliding window as a fraction of the patch.
    heads: output channels of the network.
    previous: the first stage of a cascade; its labels enter one-hot after the CT.
    mirrored_heads: for each head, its head in a patient mirrored along the last axis (left and right exchanged); empty
        where mirroring exchanges nothing, as in the original framework.
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
    mirrored_heads: tuple[int, ...] = ()

    @property
    def planar(self) -> bool:
        """Whether the network sees one slice at a time (2d)."""
        return len(self.patch_size) == 2


@dataclass(frozen=True, slots=True)
class LargestComponent:
    """v1 postprocessing: join some labels and keep their largest component(s), with 6-neighbour connectivity.

    numbers: labels of the network (not of the card) that are joined.
    smaller_than_mm3: remove other components only below this size; None removes all of them.
    """

    numbers: tuple[int, ...]
    smaller_than_mm3: float | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One complete nnU-Net model: configurations whose probabilities are averaged, and the meaning of its labels.

    numbers: card label number of each head; 0 leaves a label out. Without `regions`, the first is 0 (background).
    regions: heads are sigmoid masks, painted in this order, later over earlier.
    """

    configurations: tuple[Configuration, ...]
    numbers: tuple[int, ...]
    regions: bool = False
    postprocessing: tuple[LargestComponent, ...] = ()


@dataclass(frozen=True, slots=True)
class Previous:
    """The first stage of a cascade.

    part: the low-resolution model with its own postprocessing.
    order: spline order of its labels' way to the next stage's grid (v1: 1; v2: that of resampling_fn_seg).
    """

    part: Part
    order: int = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """TotalSegmentator's own resampling around nnU-Net: isotropic, cut to whole HU; labels return with order 0."""

    spacing_mm: float
    order: int = 1


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was converted: its path in the published folder, and its SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NnunetModel:
    """The `nnunet` section of a card. parts: run one after the other; later labels replace earlier ones."""

    parts: tuple[Part, ...]
    precision: Precision
    source: tuple[SourceFile, ...]
    frame: Frame | None = None
