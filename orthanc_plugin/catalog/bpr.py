"""What a converted body part regression needs beside its graph: the look-up table and the statistics of its slopes.

These dataclasses are the schema of the card's `bpr` section; pydantic reads and writes them. The graph takes `slices`,
float32 (N, 1, size, size) in [-1, 1], and gives `scores`, float32 (N, 1), raw.
"""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.catalog.nnunet import SourceFile

START, END = "pelvis_start", "eyes_end"
"""Landmarks at scores 0 and 100."""

LANDMARKS = (
    *("pelvis_start", "femur_end", "pelvis_end", "kidney", "lung_start", "liver_end", "lung_end"),
    *("L5", "L4", "L3", "L2", "L1"),
    *("Th12", "Th11", "Th10", "Th9", "Th8", "Th7", "Th6", "Th5", "Th4", "Th3", "Th2", "Th1"),
    *("C7", "C6", "C5", "C4", "C3", "C2", "C1"),
    *("teeth", "nose", "eyes_end", "head_end"),
)
"""All landmarks that a look-up table may name; the published one names them all. `_start`: lower end, `_end`: upper."""


@dataclass(frozen=True, slots=True)
class LandmarkScore:
    """A landmark of the look-up table: mean and standard deviation of its transformed score over annotated people."""

    key: str
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class BprModel:
    """The `bpr` section of a card.

    pixel_mm, size: the slice that enters the network; low_hu, high_hu are mapped to -1 and 1.
    start_raw, end_raw: raw scores that become 0 and 100 (pelvis_start, eyes_end).
    look_up: landmarks by rising mean.
    slope_mean: score per mm; tangential_min, tangential_max: limits beyond which a slope is an outlier.
    background_scores: raw scores, to two decimals, that this network gives to empty slices.
    """

    start_raw: float
    end_raw: float
    look_up: tuple[LandmarkScore, ...]
    slope_mean: float
    tangential_min: float
    tangential_max: float
    background_scores: tuple[float, ...]
    source: tuple[SourceFile, ...]
    pixel_mm: float = 3.5
    size: int = 128
    low_hu: float = -1000.0
    high_hu: float = 1500.0
    smoothing_mm: float = 10.0
    ratio_tolerance: float = 0.28
