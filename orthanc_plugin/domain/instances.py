"""Which instances of a series count: every one once, and what is not a slice apart.

Rules and loader ask here, so that both judge the same slices.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from orthanc_plugin.domain.image_kind import ImageKind, image_kinds
from orthanc_plugin.errors import InputError, Refusal

MULTI_FRAME_CT = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

CT_IMAGES = MULTI_FRAME_CT | {CTImageStorage}
_CAPTURES = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
"""Without frames of 16 bits: scanners send whole 4D CT as those."""

_COLOUR = ("RGB", "PALETTE COLOR", "YBR_")

_ODD_VALUES = (ValueError, TypeError, NotImplementedError, RecursionError, BytesLengthException, struct.error)

ODD_SHARE = 0.1
ODD_COUNT = 3
"""Images across the others are localizers only while they are at most this share, or this many, of all."""


class Beside(StrEnum):
    """What lies in a CT series beside its slices; the value names it in notes."""

    LOCALIZER = "localizer(s)"
    PICTURE = "picture(s) without CT values"
    OTHER = "object(s) other than CT images"


def beside_slices(instance: Dataset, image_type: Iterable[str]) -> Beside | None:
    """Tell what an instance is that is not a slice; None for a slice, and for anything that may be one.

    A screen that was saved, a dose sheet, a colour image and a secondary capture hold no CT values. Other objects count
    as no slice only if they have no place in the patient: images of another modality that have one are a second series
    under the same UID, which nobody can vouch for.

    Parameters
    ----------
    instance : Dataset
        With or without pixel data, or its WADO-RS metadata.
    image_type : iterable of str
        All values of its ImageType and of the Frame Type of its frames.

    Source
    ------
    DICOM PS3.3 C.8.2.1 (a CT Image is MONOCHROME1 or MONOCHROME2), A.8 (Secondary Capture), C.7.6.2.1.1.
    """
    kinds, sop_class = image_kinds(image_type), str(instance.get("SOPClassUID") or "")
    is_ct = sop_class in CT_IMAGES
    if is_ct and ImageKind.LOCALIZER in kinds:
        return Beside.LOCALIZER
    is_colour = str(instance.get("PhotometricInterpretation") or "").startswith(_COLOUR)
    if sop_class in _CAPTURES or (is_ct and (is_colour or ImageKind.SCREEN_SAVE in kinds)):
        return Beside.PICTURE
    may_be_slice = is_ct or sop_class in ("", MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
    return None if may_be_slice or _has_place(instance) else Beside.OTHER


def _has_place(instance: Dataset) -> bool:
    try:
        return bool(instance.get("ImagePositionPatient"))
    except _ODD_VALUES:  # a place that nobody can read is one
        return True


def distinct_instances(headers: Sequence[Dataset]) -> list[Dataset]:
    """Give every instance once, in the order given.

    Raises
    ------
    InputError
        MIXED_IDENTITY: one SOPInstanceUID has two contents.
    """
    first: dict[str, Dataset] = {}
    distinct = []
    for ds in headers:
        uid = str(ds.get("SOPInstanceUID") or "")
        if uid not in first:
            distinct.append(ds)
        elif not same_content(first[uid], ds):
            raise two_contents(uid)
        if uid:
            first.setdefault(uid, ds)
    return distinct


def same_content(one: Dataset, other: Dataset) -> bool:
    """Tell whether two datasets hold the same elements and bytes.

    Raises
    ------
    InputError
        UNREADABLE: an element is damaged, or sequences lie in each other too deeply.
    """
    try:
        return one is other or one == other
    except _ODD_VALUES as error:  # pydicom parses elements only now; its texts may quote them
        message = f"an instance that comes twice cannot be compared ({type(error).__name__}); send each instance once"
        raise InputError(Refusal.UNREADABLE, message) from None


def two_contents(sop_uid: str) -> InputError:
    """Give the refusal of one SOPInstanceUID with two contents."""
    message = f"SOPInstanceUID {sop_uid} comes more than once with different content; send each instance once"
    return InputError(Refusal.MIXED_IDENTITY, message)


def frame_count(ds: Dataset) -> int:
    """Give NumberOfFrames, 1 where it is absent.

    Raises
    ------
    InputError
        UNREADABLE: it is not a number.
    """
    try:
        return int(ds.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        raise InputError(Refusal.UNREADABLE, "NumberOfFrames is not a number; export the series again") from None


def frame_number(header: Dataset) -> int | None:
    """Give the number of the frame that a header was made of; None for that of a single-frame instance."""
    number = header.get("ReferencedFrameNumber") if header.get("SOPClassUID") in MULTI_FRAME_CT else None
    return None if number is None else int(number)


def few_enough(odd: int, count: int) -> bool:
    """Tell whether so few of `count` images are odd that they are localizers, not half of a mixed series."""
    return odd <= max(ODD_COUNT, ODD_SHARE * count) and 3 * odd < count
