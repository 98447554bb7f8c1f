"""What is measured on a segmented volume: features and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.codes import Code

ORIGINAL = "original"
"""The image as scanned, not filtered."""


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """One radiomics feature of one segment.

    name: pyradiomics' name, `shape_MeshVolume`, `firstorder_Mean`.
    concept: coded meaning (IBSI where it has a code).
    unit: UCUM code.
    derivation: for statistics of HU, the one it is (PS3.16 CID 7464: mean, median, ...); None for others.
    """

    name: str
    concept: Code
    unit: Code
    value: float
    derivation: Code | None = None


@dataclass(frozen=True, slots=True)
class SegmentFeatures:
    """The features of one segment on one image; `notes` says why some are missing (one voxel, empty).

    image: `original`, or the filtered image by pyradiomics' name (`log-sigma-2-0-mm-3D`, `wavelet-LLH`).
    """

    segment_number: int
    features: tuple[FeatureValue, ...]
    notes: tuple[str, ...] = ()
    image: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class Landmark:
    """An anatomical level: one slice of the series.

    name: for people, `lung top`.
    slice_index: index into the volume's z axis.
    z_mm: position of that slice along the patient's head-foot axis (LPS z).
    """

    name: str
    structure: Code
    modifier: Code | None
    slice_index: int
    z_mm: float
