"""Measurements of a segmented volume: features and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.codes import Code

ORIGINAL = "original"
"""The image as scanned, not filtered."""


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """One radiomics feature of one segment.

    name: name in pyradiomics, e.g. `shape_MeshVolume` or `firstorder_Mean`.
    concept: coded meaning, from IBSI if it has a code.
    unit: UCUM code.
    derivation: which statistic of HU the value is (PS3.16 CID 7464: mean, median, ...); None for other features.
    """

    name: str
    concept: Code
    unit: Code
    value: float
    derivation: Code | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Features that were asked for and have no value, by name, and the reason."""

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """How one segment was measured on one image: what was done, not what was asked for.

    classes: the feature classes in words, `volume` for the volume alone.
    discretisation: how grey levels were made, in words.
    textures: how texture matrices were made, in words; empty without textures.
    spacing_mm: (z, y, x) of the grid.
    voxels: number of voxels whose intensities count.
    """

    classes: str
    discretisation: str
    spacing_mm: tuple[float, float, float]
    voxels: int
    textures: str = ""


@dataclass(frozen=True, slots=True)
class SegmentFeatures:
    """The features of one segment on one image.

    notes: why features are missing, e.g. because the segment has one voxel.
    image: `original`, or the name of the filtered image in pyradiomics (`log-sigma-2-0-mm-3D`, `wavelet-LLH`).
    aggregation: of the textures, if the group has only those (`2D, averaged`); empty for the first or only aggregation,
        which goes with all other features.
    missing: each feature that was asked for and is not among `features`.
    conditions: None if nothing was measured.
    """

    segment_number: int
    features: tuple[FeatureValue, ...]
    notes: tuple[str, ...] = ()
    image: str = ORIGINAL
    missing: tuple[Missing, ...] = ()
    conditions: Conditions | None = None
    aggregation: str = ""


@dataclass(frozen=True, slots=True)
class Landmark:
    """An anatomical level: one slice of the series.

    name: name for people, e.g. `lung top`.
    slice_index: index into the volume's z axis.
    z_mm: position of that slice on the head-foot axis of the patient (LPS z).
    """

    name: str
    structure: Code
    modifier: Code | None
    slice_index: int
    z_mm: float
