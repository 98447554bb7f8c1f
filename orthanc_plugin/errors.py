"""The tree of errors. The class says whether to try again; its docstring is the default message.

    EnrichError
      InputError        the series cannot be used: never retried, the series is refused with a reason
        MaskError         the masks that others made do not fit the series: never retried
      TransientError    archive down, disk full, out of memory: retried with back-off
        IncompleteError   the archive never sends the whole series
          NothingSentError  the archive lists the series and sends nothing of it
        OutOfMemoryError  smaller tiles and the CPU did not help
      ModelError        missing, wrong digest, wrong shape: never retried, the operator must act
      EncodingError     our own output would be invalid: a bug, fails loudly
      StoreError        the archive refused the result: retried, then failed with its answer
        RefusedError    the archive will never take or remove the result: never retried
        UnclearRefusalError  the archive may not support such objects: believed after a few tries
      NotSupportedError the archive does not take this kind of object: never retried, a fallback may be sent instead
      QueryError        the question to the tables of a cohort cannot be run
      ConfigError       stops the start-up (exit 78)

No message holds patient data: job databases store messages and Orthanc logs them. UIDs are allowed.
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Reason why a series gets no result. Ledger, API and command line show the value."""

    NOT_CT = "not-ct"
    NO_RULE = "no-rule"
    RULE_ERROR = "rule-error"
    TEST_MODEL = "test-model"
    BETTER_SERIES = "better-series"
    TOO_FEW_SLICES = "too-few-slices"
    UNREADABLE = "unreadable"
    NO_PIXELS = "no-pixels"
    NOT_HU = "not-hu"
    IMPLAUSIBLE_HU = "implausible-hu"
    MISSING_GEOMETRY = "missing-geometry"
    MIXED_ORIENTATION = "mixed-orientation"
    MIXED_SPACING = "mixed-spacing"
    MIXED_SIZE = "mixed-size"
    TOO_LARGE = "too-large"
    MIXED_FRAME_OF_REFERENCE = "mixed-frame-of-reference"
    DUPLICATE_POSITIONS = "duplicate-positions"
    MISSING_SLICE = "missing-slice"
    GANTRY_TILT = "gantry-tilt"
    NOT_AXIAL = "not-axial"
    NOT_COVERED = "not-covered"
    REVERSED = "reversed"
    INVALID_SPACING = "invalid-spacing"
    HELD_BACK = "held-back"
    INPUT_QUALITY = "input-quality"
    MULTI_FRAME = "multi-frame"
    MIXED_IDENTITY = "mixed-identity"
    MISSING_IDENTITY = "missing-identity"
    INVALID_IDENTITY = "invalid-identity"
    TWO_PATIENTS = "two-patients"
    BAD_UID = "bad-uid"
    ARCHIVE_REFUSED = "archive-refused"
    NOT_SENT = "not-sent"
    GONE = "gone"
    MASK_FRAME_OF_REFERENCE = "mask-frame-of-reference"
    MASK_OTHER_SERIES = "mask-other-series"
    MASK_GRID = "mask-grid"
    MASK_UNREADABLE = "mask-unreadable"
    NO_MASKS = "no-masks"


class EnrichError(Exception):
    """Something went wrong while enriching."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class InputError(EnrichError):
    """The series cannot be used."""

    def __init__(self, reason: Refusal, message: str = "") -> None:
        super().__init__(message or reason.value)
        self.reason = reason


class MaskError(InputError):
    """The masks of an object cannot be used on this series."""


class TransientError(EnrichError):
    """Something that is needed is not available now; the step is tried again."""


class IncompleteError(TransientError):
    """An archive answers, but does not send the whole series; one that never does is not asked for ever."""


class NothingSentError(IncompleteError):
    """An archive lists the series, but sends nothing of it; the cause may lie in the settings of either side."""


class OutOfMemoryError(TransientError):
    """Memory ran out; the step is tried again."""


class ModelError(EnrichError):
    """The model is missing, was altered, or does not fit; the operator must act."""


class EncodingError(EnrichError):
    """The result would not be a valid DICOM object."""


class StoreError(EnrichError):
    """The archive refused the result."""


class RefusedError(StoreError):
    """The archive refuses this for good; a person must act."""


class UnclearRefusalError(StoreError):
    """The archive refuses the object without saying whether it supports such objects."""


class NotSupportedError(EnrichError):
    """The archive does not support this kind of object."""


class QueryError(EnrichError):
    """The query cannot be run on the tables."""


class ConfigError(EnrichError):
    """The configuration cannot be used."""
