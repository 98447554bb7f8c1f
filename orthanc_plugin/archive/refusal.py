"""What a refusal to store means: try again, an error, or an archive that does not support such objects."""

from __future__ import annotations

from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from orthanc_plugin.domain.uids import LABEL_MAP_SEGMENTATION
from orthanc_plugin.errors import EnrichError, NotSupportedError, StoreError, UnclearRefusalError

_PROCESSING_FAILURE = 0x0110
_NOT_SUPPORTED = (0x0122, 0x0124)
"""SOP class not supported; not authorized for it (PS3.7 C.5.6, C.5.25; PS3.18 I.2.2)."""

_OFTEN_REFUSED = (SegmentationStorage, LABEL_MAP_SEGMENTATION, Comprehensive3DSRStorage)
"""Kinds that archives refuse with "processing failure" where they do not know them; it may also be a passing fault."""


def refusal(archive: str, sop_class_uid: str, status: int, said: str) -> EnrichError:
    """Return the error for a C-STORE status or a STOW FailureReason.

    Parameters
    ----------
    archive : str
        Name of the archive.
    sop_class_uid : str
        Of the object that it refused.
    status : int
        Its code.
    said : str
        What to add to the message.

    Source
    ------
    DICOM PS3.4 Table B.2-1, PS3.18 Table I.2-2.
    """
    text = f"archive {archive} {said}"
    if status in _NOT_SUPPORTED or status & 0xFF00 == 0xA900:
        return NotSupportedError(text)
    if status == _PROCESSING_FAILURE and sop_class_uid in _OFTEN_REFUSED:
        return UnclearRefusalError(text)
    return StoreError(text)
