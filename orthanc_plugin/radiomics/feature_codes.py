"""What each feature means and its unit, in codes.

IBSI codes: DICOM's own list (PS3.16 CID 218, with DICOM's meaning) where it has the feature, else the IBSI reference
manual (with the manual's name). Four features of pyradiomics have no IBSI code and get one of the private scheme.
Kurtosis is written as IBSI's excess kurtosis. docs/radiomics.md shows this table; tests/unit/test_radiomics_codes.py
holds it against a reference table and the page against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from orthanc_plugin.codes import PRIVATE_SCHEME, Code

_IBSI = "IBSI"

_RATIO = Code("1", "UCUM", "no units")
_MM = Code("mm", "UCUM", "mm")
_MM2 = Code("mm2", "UCUM", "square millimeter")
_MM3 = Code("mm3", "UCUM", "cubic millimeter")
_PER_MM = Code("/mm", "UCUM", "per millimeter")
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_HU2 = Code("[hnsf'U]2", "UCUM", "square Hounsfield unit")
_HU2_MM3 = Code("[hnsf'U]2.mm3", "UCUM", "square Hounsfield unit cubic millimeter")


@dataclass(frozen=True, slots=True)
class CodedFeature:
    """One feature: pyradiomics' name with its class, its concept and its UCUM unit."""

    name: str
    concept: Code
    unit: Code


def _coded(name: str, ibsi: str, meaning: str, unit: Code) -> CodedFeature:
    return CodedFeature(name, Code(ibsi, _IBSI, meaning), unit)


def _private(name: str, value: str, meaning: str, unit: Code) -> CodedFeature:
    return CodedFeature(name, Code(value, PRIVATE_SCHEME, meaning), unit)


FEATURES: tuple[CodedFeature, ...] = (
    _coded("shape_MeshVolume", "RNU0", "Volume of Mesh", _MM3),
    _coded("shape_VoxelVolume", "YEKZ", "Volume from Voxel Summation", _MM3),
    _coded("shape_SurfaceArea", "C0JK", "Surface Area of Mesh", _MM2),
    _coded("shape_SurfaceVolumeRatio", "2PR5", "Surface to Volume Ratio", _PER_MM),
    _coded("shape_Sphericity", "QCFX", "Sphericity", _RATIO),
    _coded("shape_Maximum3DDiameter", "L0JK", "Maximum 3D Diameter of a Mesh", _MM),
    _private("shape_Maximum2DDiameterSlice", "MAXDIAM2DSLICE", "Maximum 2D Diameter of a Mesh at Constant Slice", _MM),
    _private("shape_Maximum2DDiameterColumn", "MAXDIAM2DCOLUMN", "Maximum 2D Diameter of a Mesh at Constant Row", _MM),
    _private("shape_Maximum2DDiameterRow", "MAXDIAM2DROW", "Maximum 2D Diameter of a Mesh at Constant Column", _MM),
    _coded("shape_MajorAxisLength", "TDIC", "Major Axis in 3D Length", _MM),
    _coded("shape_MinorAxisLength", "P9VJ", "Minor Axis in 3D Length", _MM),
    _coded("shape_LeastAxisLength", "7J51", "Least Axis in 3D Length", _MM),
    _coded("shape_Elongation", "Q3CK", "Elongation", _RATIO),
    _coded("shape_Flatness", "N17B", "Flatness", _RATIO),
    _coded("firstorder_Mean", "Q4LE", "Mean intensity", _HU),
    _coded("firstorder_Variance", "ECT3", "Intensity variance", _HU2),
    _coded("firstorder_Skewness", "KE2A", "Intensity skewness", _RATIO),
    _coded("firstorder_Kurtosis", "IPH6", "(Excess) intensity kurtosis", _RATIO),
    _coded("firstorder_Median", "Y12H", "Median intensity", _HU),
    _coded("firstorder_Minimum", "1GSF", "Minimum intensity", _HU),
    _coded("firstorder_10Percentile", "QG58", "10th intensity percentile", _HU),
    _coded("firstorder_90Percentile", "8DWT", "90th intensity percentile", _HU),
    _coded("firstorder_Maximum", "84IY", "Maximum intensity", _HU),
    _coded("firstorder_InterquartileRange", "SALO", "Intensity interquartile range", _HU),
    _coded("firstorder_Range", "2OJQ", "Intensity range", _HU),
    _coded("firstorder_MeanAbsoluteDeviation", "4FUA", "Intensity-based mean absolute deviation", _HU),
    _coded("firstorder_RobustMeanAbsoluteDeviation", "1128", "Intensity-based robust mean absolute deviation", _HU),
    _coded("firstorder_Energy", "N8CA", "Intensity-based energy", _HU2),
    _private("firstorder_TotalEnergy", "TOTALENERGY", "Intensity-based energy times voxel volume", _HU2_MM3),
    _coded("firstorder_RootMeanSquared", "5ZWQ", "Root mean square intensity", _HU),
    _coded("firstorder_Entropy", "TLU2", "Intensity Histogram Entropy", _RATIO),
    _coded("firstorder_Uniformity", "BJ5W", "Intensity Histogram Uniformity", _RATIO),
)
"""In the order in which reports list them."""
