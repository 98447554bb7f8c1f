"""Which texts and bytes of an object survive: everything else that can hold words is removed.

The Basic Profile lists what to remove and leaves what it does not list. A name can stand in any text, so this list is
turned around: an attribute of a VR of text, codes or bytes stays only if it stands here.
"""

from __future__ import annotations

CODE_STRINGS = frozenset(
    [
        "AcquisitionType",
        "BodyPartExamined",
        "BurnedInAnnotation",
        "CompletionFlag",
        "ContentLabel",
        "ContentQualification",
        "ContinuityOfContent",
        "ContourGeometricType",
        "ContrastBolusAgentAdministered",
        "ContrastBolusAgentDetected",
        "ContrastBolusAgentPhase",
        "CTDIPhantomTypeCode",
        "DimensionOrganizationType",
        "ExposureModulationType",
        "FieldOfViewShape",
        "FrameLaterality",
        "FrameType",
        "GraphicType",
        "ImageType",
        "LongitudinalTemporalInformationModified",
        "Laterality",
        "LossyImageCompression",
        "LossyImageCompressionMethod",
        "MappingResource",
        "Modality",
        "PatientIdentityRemoved",
        "PatientPosition",
        "PhotometricInterpretation",
        "PixelPresentation",
        "PreliminaryFlag",
        "PresentationLUTShape",
        "RecommendedDisplayCIELabValue",
        "RelationshipType",
        "ROIGenerationAlgorithm",
        "RotationDirection",
        "RTROIInterpretedType",
        "ScanOptions",
        "SegmentAlgorithmType",
        "SegmentationFractionalType",
        "SegmentationType",
        "SegmentsOverlap",
        "SpatialLocationsPreserved",
        "SpecificCharacterSet",
        "TemplateIdentifier",
        "ValueType",
        "VerificationFlag",
        "VolumeBasedCalculationTechnique",
        "VolumetricProperties",
        "LossyImageCompressionRatio",
        "FilterMaterial",
        "FocalSpotPosition",
        "ApprovalStatus",
    ]
)
TEXTS = frozenset(
    [
        "AlgorithmName",
        "AlgorithmParameters",
        "AlgorithmSource",
        "AlgorithmVersion",
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "ConvolutionKernel",
        "FilterType",
        "LongCodeValue",
        "Manufacturer",
        "ManufacturerModelName",
        "PatientID",
        "PatientName",
        "RescaleType",
        "ROIName",
        "SegmentAlgorithmName",
        "SegmentLabel",
        "SoftwareVersions",
        "StructureSetLabel",
        "TextValue",
        "TrackingID",
        "URNCodeValue",
        "DeidentificationMethod",
        "DeviceSerialNumber",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientBirthDate",
        "PositionReferenceIndicator",
        "ContentDescription",
        "ContentCreatorName",
        "ContentLabel",
        "StackID",
        "PersonName",
        "SeriesDescription",
        "DimensionDescriptionLabel",
        "CodingSchemeName",
        "CodingSchemeResponsibleOrganization",
        "InstitutionName",
        "ObservationLabel",
        "ROIObservationLabel",
        "ROIInterpreter",
        "VerifyingObserverName",
    ]
)
BYTES = frozenset(
    [
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
        "LUTData",
        "EncapsulatedPixelDataValueTotalLength",
        "ICCProfile",
        "LargestImagePixelValue",
        "SmallestImagePixelValue",
    ]
)

TEXT_VRS = frozenset(("AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
BYTE_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


def is_kept(keyword: str, vr: str) -> bool:
    """Tell whether an attribute may stay, by its keyword and VR."""
    if vr == "CS":
        return keyword in CODE_STRINGS
    if vr in TEXT_VRS:
        return keyword in TEXTS
    return vr not in BYTE_VRS or keyword in BYTES
