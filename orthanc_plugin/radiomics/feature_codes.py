"""The coded concept and unit of each feature.

IBSI codes come from DICOM's own list (PS3.16 CID 218, with DICOM's meaning) if it has the feature, else from the IBSI
reference manual (with the manual's name), or for the intensity-volume histogram, of which the manual codes two values
alike, from IBSI's reference values. A feature without an IBSI code gets one of the private scheme. In pyradiomics
mode, so do the four features that pyradiomics defines differently: they miss the published values of the IBSI digital
phantom or their definition. docs/radiomics.md shows these tables. tests/unit/radiomics/test_codes.py compares them with
a reference table, and the page with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from orthanc_plugin.codes import PRIVATE_SCHEME, Code
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode

_IBSI = "IBSI"

_RATIO = Code("1", "UCUM", "no units")
_MM = Code("mm", "UCUM", "mm")
_MM2 = Code("mm2", "UCUM", "square millimeter")
_MM3 = Code("mm3", "UCUM", "cubic millimeter")
_PER_MM = Code("/mm", "UCUM", "per millimeter")
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_HU2 = Code("[hnsf'U]2", "UCUM", "square Hounsfield unit")
_HU_MM3 = Code("[hnsf'U].mm3", "UCUM", "Hounsfield unit cubic millimeter")
_HU2_MM3 = Code("[hnsf'U]2.mm3", "UCUM", "square Hounsfield unit cubic millimeter")

# PS3.16 CID 7464
_MEAN = Code("373098007", "SCT", "Mean")
_MEDIAN = Code("373099004", "SCT", "Median")
_MINIMUM = Code("255605001", "SCT", "Minimum")
_MAXIMUM = Code("56851009", "SCT", "Maximum")
_VARIANCE = Code("C1711260", "UMLS", "Variance")
_ROOT_MEAN_SQUARE = Code("C2347976", "UMLS", "Root Mean Square")
_SKEWNESS = Code("126051", "DCM", "Skewness")
_KURTOSIS = Code("126052", "DCM", "Kurtosis")


@dataclass(frozen=True, slots=True)
class CodedFeature:
    """One feature: pyradiomics' name with its class, its concept, its UCUM unit, and the statistic of HU that it is."""

    name: str
    concept: Code
    unit: Code
    derivation: Code | None = None


def _coded(name: str, ibsi: str, meaning: str, unit: Code, derivation: Code | None = None) -> CodedFeature:
    return CodedFeature(name, Code(ibsi, _IBSI, meaning), unit, derivation)


def _private(name: str, value: str, meaning: str, unit: Code) -> CodedFeature:
    return CodedFeature(name, Code(value, PRIVATE_SCHEME, meaning), unit)


FEATURES: tuple[CodedFeature, ...] = (
    _coded("shape_MeshVolume", "RNU0", "Volume of Mesh", _MM3),
    _coded("shape_VoxelVolume", "YEKZ", "Volume from Voxel Summation", _MM3),
    _coded("shape_SurfaceArea", "C0JK", "Surface Area of Mesh", _MM2),
    _coded("shape_SurfaceVolumeRatio", "2PR5", "Surface to Volume Ratio", _PER_MM),
    _coded("shape_Sphericity", "QCFX", "Sphericity", _RATIO),
    _coded("shape_Compactness1", "SKGS", "Compactness 1", _RATIO),
    _coded("shape_Compactness2", "BQWJ", "Compactness 2", _RATIO),
    _coded("shape_SphericalDisproportion", "KRCK", "Spherical Disproportion", _RATIO),
    _coded("shape_Maximum3DDiameter", "L0JK", "Maximum 3D Diameter of a Mesh", _MM),
    _private("shape_Maximum2DDiameterSlice", "MAXDIAM2DSLICE", "Maximum 2D Diameter of a Mesh at Constant Slice", _MM),
    _private("shape_Maximum2DDiameterColumn", "MAXDIAM2DCOLUMN", "Maximum 2D Diameter of a Mesh at Constant Row", _MM),
    _private("shape_Maximum2DDiameterRow", "MAXDIAM2DROW", "Maximum 2D Diameter of a Mesh at Constant Column", _MM),
    _coded("shape_MajorAxisLength", "TDIC", "Major Axis in 3D Length", _MM),
    _coded("shape_MinorAxisLength", "P9VJ", "Minor Axis in 3D Length", _MM),
    _coded("shape_LeastAxisLength", "7J51", "Least Axis in 3D Length", _MM),
    _coded("shape_Elongation", "Q3CK", "Elongation", _RATIO),
    _coded("shape_Flatness", "N17B", "Flatness", _RATIO),
    _private("shape2D_MeshSurface", "2DMESHSURFACE", "Area of the mesh of the largest axial slice", _MM2),
    _private("shape2D_PixelSurface", "2DPIXELSURFACE", "Area of the pixels of the largest axial slice", _MM2),
    _private("shape2D_Perimeter", "2DPERIMETER", "Perimeter of the mesh of the largest axial slice", _MM),
    _private(
        "shape2D_PerimeterSurfaceRatio", "2DPERIMSURFRATIO", "Perimeter to area of the largest axial slice", _PER_MM
    ),
    _private("shape2D_Sphericity", "2DSPHERICITY", "Circularity of the largest axial slice", _RATIO),
    _private("shape2D_MaximumDiameter", "2DMAXDIAMETER", "Maximum diameter of the largest axial slice", _MM),
    _private("shape2D_MajorAxisLength", "2DMAJORAXIS", "Major axis length of the largest axial slice", _MM),
    _private("shape2D_MinorAxisLength", "2DMINORAXIS", "Minor axis length of the largest axial slice", _MM),
    _private("shape2D_Elongation", "2DELONGATION", "Elongation of the largest axial slice", _RATIO),
    _coded("firstorder_Mean", "Q4LE", "Mean intensity", _HU, _MEAN),
    _coded("firstorder_Variance", "ECT3", "Intensity variance", _HU2, _VARIANCE),
    _coded("firstorder_Skewness", "KE2A", "Intensity skewness", _RATIO, _SKEWNESS),
    _coded("firstorder_Kurtosis", "IPH6", "(Excess) intensity kurtosis", _RATIO, _KURTOSIS),
    _coded("firstorder_Median", "Y12H", "Median intensity", _HU, _MEDIAN),
    _coded("firstorder_Minimum", "1GSF", "Minimum intensity", _HU, _MINIMUM),
    _coded("firstorder_10Percentile", "QG58", "10th intensity percentile", _HU),
    _coded("firstorder_90Percentile", "8DWT", "90th intensity percentile", _HU),
    _coded("firstorder_Maximum", "84IY", "Maximum intensity", _HU, _MAXIMUM),
    _coded("firstorder_InterquartileRange", "SALO", "Intensity interquartile range", _HU),
    _coded("firstorder_Range", "2OJQ", "Intensity range", _HU),
    _coded("firstorder_MeanAbsoluteDeviation", "4FUA", "Intensity-based mean absolute deviation", _HU),
    _coded("firstorder_RobustMeanAbsoluteDeviation", "1128", "Intensity-based robust mean absolute deviation", _HU),
    _coded("firstorder_Energy", "N8CA", "Intensity-based energy", _HU2),
    _private("firstorder_TotalEnergy", "TOTALENERGY", "Intensity-based energy times voxel volume", _HU2_MM3),
    _coded("firstorder_RootMeanSquared", "5ZWQ", "Root mean square intensity", _HU, _ROOT_MEAN_SQUARE),
    _coded("firstorder_Entropy", "TLU2", "Intensity Histogram Entropy", _RATIO),
    _coded("firstorder_Uniformity", "BJ5W", "Intensity Histogram Uniformity", _RATIO),
    _coded("glcm_Autocorrelation", "QWB0", "Autocorrelation of GLCM", _RATIO),
    _coded("glcm_ClusterProminence", "AE86", "Cluster Prominence of GLCM", _RATIO),
    _coded("glcm_ClusterShade", "7NFM", "Cluster Shade of GLCM", _RATIO),
    _coded("glcm_ClusterTendency", "DG8W", "Cluster Tendency of GLCM", _RATIO),
    _coded("glcm_Contrast", "ACUI", "Contrast of GLCM", _RATIO),
    _coded("glcm_Correlation", "NI2N", "Correlation of GLCM", _RATIO),
    _coded("glcm_DifferenceAverage", "TF7R", "Difference Average of GLCM", _RATIO),
    _coded("glcm_DifferenceEntropy", "NTRS", "Difference Entropy of GLCM", _RATIO),
    _coded("glcm_DifferenceVariance", "D3YU", "Difference Variance of GLCM", _RATIO),
    _coded("glcm_Id", "IB1Z", "Inverse Difference of GLCM", _RATIO),
    _coded("glcm_Idm", "WF0Z", "Inverse Difference Moment of GLCM", _RATIO),
    _coded("glcm_Idmn", "1QCO", "Normalized Inverse Difference Moment of GLCM", _RATIO),
    _coded("glcm_Idn", "NDRX", "Normalized Inverse Difference of GLCM", _RATIO),
    _coded("glcm_Imc1", "R8DG", "First Measure of Information Correlation of GLCM", _RATIO),
    _coded("glcm_Imc2", "JN9H", "Second Measure of Information Correlation of GLCM", _RATIO),
    _coded("glcm_InverseVariance", "E8JP", "Inverse Variance of GLCM", _RATIO),
    _coded("glcm_JointAverage", "60VM", "Joint Average of GLCM", _RATIO),
    _coded("glcm_JointEnergy", "8ZQL", "Angular Second Moment of GLCM", _RATIO),
    _coded("glcm_JointEntropy", "TU9B", "Joint Entropy of GLCM", _RATIO),
    _private("glcm_MCC", "MCC", "Maximal Correlation Coefficient of GLCM", _RATIO),
    _coded("glcm_MaximumProbability", "GYBY", "Joint Maximum of GLCM", _RATIO),
    _coded("glcm_SumAverage", "ZGXS", "Sum Average of GLCM", _RATIO),
    _coded("glcm_SumEntropy", "P6QZ", "Sum Entropy of GLCM", _RATIO),
    _coded("glcm_SumSquares", "UR99", "Joint Variance of GLCM", _RATIO),
    _coded("glrlm_GrayLevelNonUniformity", "R5YN", "Gray Level Nonuniformity in Runs", _RATIO),
    _coded("glrlm_GrayLevelNonUniformityNormalized", "OVBL", "Normalized Gray Level Nonuniformity in Runs", _RATIO),
    _coded("glrlm_GrayLevelVariance", "8CE5", "Gray Level Variance in Runs", _RATIO),
    _coded("glrlm_HighGrayLevelRunEmphasis", "G3QZ", "High Gray Level Run Emphasis", _RATIO),
    _coded("glrlm_LongRunEmphasis", "W4KF", "Long Runs Emphasis", _RATIO),
    _coded("glrlm_LongRunHighGrayLevelEmphasis", "3KUM", "Long Run High Gray Level Emphasis", _RATIO),
    _coded("glrlm_LongRunLowGrayLevelEmphasis", "IVPO", "Long Run Low Gray Level Emphasis", _RATIO),
    _coded("glrlm_LowGrayLevelRunEmphasis", "V3SW", "Low Gray Level Run Emphasis", _RATIO),
    _coded("glrlm_RunEntropy", "HJ9O", "Run Entropy", _RATIO),
    _coded("glrlm_RunLengthNonUniformity", "W92Y", "Run Length Nonuniformity", _RATIO),
    _coded("glrlm_RunLengthNonUniformityNormalized", "IC23", "Normalized Run Length Nonuniformity", _RATIO),
    _coded("glrlm_RunPercentage", "9ZK5", "Run Percentage", _RATIO),
    _coded("glrlm_RunVariance", "SXLW", "Run Length Variance", _RATIO),
    _coded("glrlm_ShortRunEmphasis", "22OV", "Short Runs Emphasis", _RATIO),
    _coded("glrlm_ShortRunHighGrayLevelEmphasis", "GD3A", "Short Run High Gray Level Emphasis", _RATIO),
    _coded("glrlm_ShortRunLowGrayLevelEmphasis", "HTZT", "Short Run Low Gray Level Emphasis", _RATIO),
    _coded("glszm_GrayLevelNonUniformity", "JNSA", "Gray Level Nonuniformity of Size Zone Counts", _RATIO),
    _coded(
        "glszm_GrayLevelNonUniformityNormalized",
        "Y1RO",
        "Normalized Gray Level Nonuniformity of Size Zone Counts",
        _RATIO,
    ),
    _coded("glszm_GrayLevelVariance", "BYLV", "Gray Level Variance in Size Zones", _RATIO),
    _coded("glszm_HighGrayLevelZoneEmphasis", "5GN9", "High Gray Level Zone Emphasis", _RATIO),
    _coded("glszm_LargeAreaEmphasis", "48P8", "Large Zone Emphasis", _RATIO),
    _coded("glszm_LargeAreaHighGrayLevelEmphasis", "J17V", "Large Zone High Gray Level Emphasis", _RATIO),
    _coded("glszm_LargeAreaLowGrayLevelEmphasis", "YH51", "Large Zone Low Gray Level Emphasis", _RATIO),
    _coded("glszm_LowGrayLevelZoneEmphasis", "XMSY", "Low Gray Level Zone Emphasis", _RATIO),
    _coded("glszm_SizeZoneNonUniformity", "4JP3", "Zone Size Nonuniformity", _RATIO),
    _coded("glszm_SizeZoneNonUniformityNormalized", "VB3A", "Normalized Zone Size Nonuniformity", _RATIO),
    _coded("glszm_SmallAreaEmphasis", "5QRC", "Small Zone Emphasis", _RATIO),
    _coded("glszm_SmallAreaHighGrayLevelEmphasis", "HW1V", "Small Zone High Gray Level Emphasis", _RATIO),
    _coded("glszm_SmallAreaLowGrayLevelEmphasis", "5RAI", "Small Zone Low Gray Level Emphasis", _RATIO),
    _coded("glszm_ZoneEntropy", "GU8N", "Zone Size Entropy", _RATIO),
    _coded("glszm_ZonePercentage", "P30P", "Size Zone Percentage", _RATIO),
    _coded("glszm_ZoneVariance", "3NSA", "Zone Size Variance", _RATIO),
    _coded("ngtdm_Busyness", "NQ30", "Busyness of NGTDM", _RATIO),
    _coded("ngtdm_Coarseness", "QCDE", "Coarseness of NGTDM", _RATIO),
    _coded("ngtdm_Complexity", "HDEZ", "Complexity of NGTDM", _RATIO),
    _coded("ngtdm_Contrast", "65HE", "Contrast of NGTDM", _RATIO),
    _coded("ngtdm_Strength", "1X9X", "Strength of NGTDM", _RATIO),
    _coded("gldm_DependenceEntropy", "FCBV", "Dependence count entropy", _RATIO),
    _coded("gldm_DependenceNonUniformity", "Z87G", "Dependence count non-uniformity", _RATIO),
    _coded("gldm_DependenceNonUniformityNormalized", "OKJI", "Dependence count non-uniformity normalized", _RATIO),
    _coded("gldm_DependenceVariance", "DNX2", "Dependence count variance", _RATIO),
    _coded("gldm_GrayLevelNonUniformity", "FP8K", "Grey level non-uniformity of NGLDM", _RATIO),
    _coded("gldm_GrayLevelVariance", "1PFV", "Grey level variance of NGLDM", _RATIO),
    _coded("gldm_HighGrayLevelEmphasis", "OAE7", "High grey level count emphasis", _RATIO),
    _coded("gldm_LargeDependenceEmphasis", "IMOQ", "High dependence emphasis", _RATIO),
    _coded("gldm_LargeDependenceHighGrayLevelEmphasis", "9QMG", "High dependence high grey level emphasis", _RATIO),
    _coded("gldm_LargeDependenceLowGrayLevelEmphasis", "NBZI", "High dependence low grey level emphasis", _RATIO),
    _coded("gldm_LowGrayLevelEmphasis", "TL9H", "Low grey level count emphasis", _RATIO),
    _coded("gldm_SmallDependenceEmphasis", "SODN", "Low dependence emphasis", _RATIO),
    _coded("gldm_SmallDependenceHighGrayLevelEmphasis", "JA6D", "Low dependence high grey level emphasis", _RATIO),
    _coded("gldm_SmallDependenceLowGrayLevelEmphasis", "EQ3F", "Low dependence low grey level emphasis", _RATIO),
    _coded("morphology_Asphericity", "25C7", "Asphericity", _RATIO),
    _coded("morphology_CentreOfMassShift", "KLMA", "Centre of Mass Shift", _MM),
    _coded(
        "morphology_VolumeDensityBoundingBox",
        "PBX1",
        "Volume Density in Frame of Reference Axis Aligned Bounding Box",
        _RATIO,
    ),
    _coded(
        "morphology_AreaDensityBoundingBox",
        "R59B",
        "Area Density in Frame of Reference Axis Aligned Bounding Box",
        _RATIO,
    ),
    _coded("morphology_VolumeDensityEllipsoid", "6BDE", "Volume Density in Approximate Enclosing Ellipsoid", _RATIO),
    _coded("morphology_AreaDensityEllipsoid", "RDD2", "Area Density in Approximate Enclosing Ellipsoid", _RATIO),
    _coded("morphology_VolumeDensityConvexHull", "R3ER", "Volume Density in Convex Hull", _RATIO),
    _coded("morphology_AreaDensityConvexHull", "7T7F", "Area Density in Convex Hull", _RATIO),
    _coded("morphology_IntegratedIntensity", "99N0", "Integrated Intensity", _HU_MM3),
    _coded("spatial_MoranI", "N365", "Moran's I Index", _RATIO),
    _coded("spatial_GearyC", "NPT7", "Geary's C Measure", _RATIO),
    _coded("localintensity_LocalPeak", "VJGA", "Local intensity peak", _HU),
    _coded("localintensity_GlobalPeak", "0F91", "Global intensity peak", _HU),
    _coded("statistics_MedianAbsoluteDeviation", "N72L", "Intensity-based median absolute deviation", _HU),
    _coded("statistics_CoefficientOfVariation", "7TET", "Intensity-based coefficient of variation", _RATIO),
    _coded(
        "statistics_QuartileCoefficientOfDispersion",
        "9S40",
        "Intensity-based quartile coefficient of dispersion",
        _RATIO,
    ),
    _coded("histogram_Mean", "X6K6", "Intensity Histogram Mean", _RATIO),
    _coded("histogram_Variance", "CH89", "Intensity Histogram Variance", _RATIO),
    _coded("histogram_Skewness", "88K1", "Intensity Histogram Skewness", _RATIO),
    _coded("histogram_Kurtosis", "C3I7", "Intensity Histogram Kurtosis", _RATIO),
    _coded("histogram_Median", "WIFQ", "Intensity Histogram Median", _RATIO),
    _coded("histogram_Minimum", "1PR8", "Intensity Histogram Minimum Gray Level", _RATIO),
    _coded("histogram_10Percentile", "GPMT", "Intensity Histogram 10th Percentile", _RATIO),
    _coded("histogram_90Percentile", "OZ0C", "Intensity Histogram 90th Percentile", _RATIO),
    _coded("histogram_Maximum", "3NCY", "Intensity Histogram Maximum Gray Level", _RATIO),
    _coded("histogram_Mode", "AMMC", "Intensity Histogram Mode", _RATIO),
    _coded("histogram_InterquartileRange", "WR0O", "Intensity Histogram Interquartile Range", _RATIO),
    _coded("histogram_Range", "5Z3W", "Intensity Histogram Range", _RATIO),
    _coded("histogram_MeanAbsoluteDeviation", "D2ZX", "Intensity Histogram Mean Absolute Deviation", _RATIO),
    _coded(
        "histogram_RobustMeanAbsoluteDeviation", "WRZB", "Intensity Histogram Robust Mean Absolute Deviation", _RATIO
    ),
    _coded("histogram_MedianAbsoluteDeviation", "4RNL", "Intensity Histogram Median Absolute Deviation", _RATIO),
    _coded("histogram_CoefficientOfVariation", "CWYJ", "Intensity Histogram Coefficient of Variation", _RATIO),
    _coded(
        "histogram_QuartileCoefficientOfDispersion",
        "SLWD",
        "Intensity Histogram Quartile Coefficient of Dispersion",
        _RATIO,
    ),
    _coded("histogram_MaximumGradient", "12CE", "Intensity Histogram Maximum Gradient", _RATIO),
    _coded("histogram_MaximumGradientLevel", "8E6O", "Intensity Histogram Maximum Gradient Gray Level", _RATIO),
    _coded("histogram_MinimumGradient", "VQB3", "Intensity Histogram Minimum Gradient", _RATIO),
    _coded("histogram_MinimumGradientLevel", "RHQZ", "Intensity Histogram Minimum Gradient Gray Level", _RATIO),
    _coded("ivh_V10", "NK6P", "Volume fraction at 10% intensity", _RATIO),
    _coded("ivh_V90", "4279", "Volume fraction at 90% intensity", _RATIO),
    _coded("ivh_V10MinusV90", "WITY", "Volume fraction difference between 10% and 90% intensity", _RATIO),
    _coded("ivh_I10", "PWN1", "Intensity at 10% volume", _HU),
    _coded("ivh_I90", "BOHI", "Intensity at 90% volume", _HU),
    _coded("ivh_I10MinusI90", "JXJA", "Intensity difference between 10% and 90% volume", _HU),
    _coded("cooccurrence_Dissimilarity", "8S9J", "Dissimilarity of GLCM", _RATIO),
    _coded("cooccurrence_SumVariance", "OEEB", "Sum Variance of GLCM", _RATIO),
    _coded("gldzm_SmallDistanceEmphasis", "0GBI", "Small Distance Emphasis", _RATIO),
    _coded("gldzm_LargeDistanceEmphasis", "MB4I", "Large Distance Emphasis", _RATIO),
    _coded("gldzm_LowGrayLevelZoneEmphasis", "S1RA", "Low Grey Level Zone Emphasis", _RATIO),
    _coded("gldzm_HighGrayLevelZoneEmphasis", "K26C", "High Grey Level Zone Emphasis", _RATIO),
    _coded("gldzm_SmallDistanceLowGrayLevelEmphasis", "RUVG", "Small Distance Low Grey Level Emphasis", _RATIO),
    _coded("gldzm_SmallDistanceHighGrayLevelEmphasis", "DKNJ", "Small Distance High Grey Level Emphasis", _RATIO),
    _coded("gldzm_LargeDistanceLowGrayLevelEmphasis", "A7WM", "Large Distance Low Grey Level Emphasis", _RATIO),
    _coded("gldzm_LargeDistanceHighGrayLevelEmphasis", "KLTH", "Large Distance High Grey Level Emphasis", _RATIO),
    _coded("gldzm_GrayLevelNonUniformity", "VFT7", "Grey Level Non-uniformity of Distance Zone Counts", _RATIO),
    _coded(
        "gldzm_GrayLevelNonUniformityNormalized",
        "7HP3",
        "Normalized Grey Level Non-uniformity of Distance Zone Counts",
        _RATIO,
    ),
    _coded("gldzm_ZoneDistanceNonUniformity", "V294", "Zone Distance Non-uniformity", _RATIO),
    _coded("gldzm_ZoneDistanceNonUniformityNormalized", "IATH", "Normalized Zone Distance Non-uniformity", _RATIO),
    _coded("gldzm_ZonePercentage", "VIWW", "Distance Zone Percentage", _RATIO),
    _coded("gldzm_GrayLevelVariance", "QK93", "Grey Level Variance in Distance Zones", _RATIO),
    _coded("gldzm_ZoneDistanceVariance", "7WT1", "Zone Distance Variance", _RATIO),
    _coded("gldzm_ZoneDistanceEntropy", "GBDU", "Zone Distance Entropy", _RATIO),
    _coded("ngldm_GrayLevelNonUniformityNormalized", "5SPA", "Normalized grey level non-uniformity of NGLDM", _RATIO),
    _coded("ngldm_DependencePercentage", "6XV8", "Dependence count percentage", _RATIO),
    _coded("ngldm_DependenceEnergy", "CAS9", "Dependence count energy", _RATIO),
)
"""All features, in the order of the reports, with the concepts of IBSI's definitions."""

PYRADIOMICS_OWN: dict[str, Code] = {
    "shape_MajorAxisLength": Code("PYRMAJORAXIS", PRIVATE_SCHEME, "Major axis length, covariance divided by n"),
    "shape_MinorAxisLength": Code("PYRMINORAXIS", PRIVATE_SCHEME, "Minor axis length, covariance divided by n"),
    "shape_LeastAxisLength": Code("PYRLEASTAXIS", PRIVATE_SCHEME, "Least axis length, covariance divided by n"),
    "firstorder_Kurtosis": Code("PYRKURTOSIS", PRIVATE_SCHEME, "Intensity kurtosis, 3 for a normal distribution"),
}
"""Concepts that replace IBSI's in pyradiomics mode: IBSI divides by n - 1 and uses excess kurtosis."""


@cache
def coded_features(mode: RadiomicsMode) -> tuple[CodedFeature, ...]:
    """Return the features with their concepts in a mode."""
    if mode is RadiomicsMode.IBSI:
        return FEATURES
    return tuple(replace(coded, concept=PYRADIOMICS_OWN.get(coded.name, coded.concept)) for coded in FEATURES)


@cache
def names_by_concept() -> dict[tuple[str, str], str]:
    """Map each concept (scheme, value) of both modes to pyradiomics' name."""
    return {(c.concept.scheme, c.concept.value): c.name for mode in RadiomicsMode for c in coded_features(mode)}
