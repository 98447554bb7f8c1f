"""Transfer syntaxes and SOP classes that are negotiated, and the recoding of what a peer cannot take as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context, build_role

from orthanc_plugin.domain.uids import LABEL_MAP_SEGMENTATION
from orthanc_plugin.errors import EncodingError

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_UNCOMPRESSED: list[str | UID] = [*PLAIN, ExplicitVRBigEndian]
_COMPRESSED: list[str | UID] = [
    JPEG2000Lossless, JPEG2000, JPEGLSLossless, JPEGLSNearLossless, JPEGLosslessSV1, JPEGLossless, RLELossless,
    HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, JPEGBaseline8Bit, JPEGExtended12Bit, DeflatedExplicitVRLittleEndian,
    "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55",  # retired forms of JPEG with 12 bits
]  # fmt: skip
_OF_RESULTS = [RLELossless, JPEG2000Lossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian]

SERIES_CLASSES = [
    CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage,
    # Dose reports and other screens of a scanner: most of them have the modality CT, and the rules skip them.
    SecondaryCaptureImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage,
]  # fmt: skip
RESULT_CLASSES = [
    SegmentationStorage, LABEL_MAP_SEGMENTATION, Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage,
    BasicTextSRStorage, RTStructureSetStorage, SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage,
]  # fmt: skip


def as_stored(classes: Sequence[str]) -> list[PresentationContext]:
    """Return contexts in which a peer can send its objects in the transfer syntax in which it holds them.

    Each compressed syntax has a context of its own: a peer chooses one syntax per context. An association has room for
    128 contexts (PS3.8 9.3.2.2), so results, which have many classes, come in fewer syntaxes.
    """
    compressed = _COMPRESSED if len(classes) <= len(SERIES_CLASSES) else _OF_RESULTS
    return [
        build_context(sop_class, syntaxes)
        for sop_class in classes
        for syntaxes in (_UNCOMPRESSED, *([syntax] for syntax in compressed))
    ]


def as_receiver(classes: Sequence[str]) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """Return the roles with which C-GET lets the peer send to us (PS3.4 C.5.3)."""
    return [build_role(sop_class, scp_role=True) for sop_class in classes]


def any_syntax(classes: Sequence[str]) -> list[PresentationContext]:
    """Return contexts for a listener, which accept whatever a peer proposes."""
    return [build_context(sop_class, _UNCOMPRESSED + _COMPRESSED) for sop_class in classes]


def to_send(ds: Dataset) -> list[PresentationContext]:
    """Return contexts to store an object: in its own transfer syntax, or else uncompressed."""
    own, sop_class = UID(ds.file_meta.TransferSyntaxUID), str(ds.SOPClassUID)
    contexts = [build_context(sop_class, [own])]
    others: list[str | UID] = [syntax for syntax in PLAIN if syntax != own]
    return [*contexts, build_context(sop_class, others)]


def recoded(ds: Dataset) -> Dataset:
    """Return an object as Explicit VR Little Endian; the object itself stays as it is.

    Raises
    ------
    EncodingError
        Its pixels cannot be decompressed.
    """
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    plain = copy.deepcopy(ds)
    if syntax.is_encapsulated:
        # gdcm, which pydicom would prefer for RLE, ends the process on some small images.
        plugin = "pylibjpeg" if syntax == RLELossless else ""
        try:
            plain.decompress(decoding_plugin=plugin, generate_instance_uid=False)
        except (ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
            raise EncodingError(f"{ds.SOPInstanceUID} cannot be decompressed ({type(error).__name__})") from None
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return plain
