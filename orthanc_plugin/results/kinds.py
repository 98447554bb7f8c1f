"""Tell which of our results an object is: the middle of its SeriesNumber says so (see `listing`)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from orthanc_plugin.domain.plan import Output, StoredObject
from orthanc_plugin.results.listing import FIRST_NUMBER, PLACES

_OF_PLACE = {place: kind for kind, (place, _) in PLACES.items()}
_UNTIL_VERSION_2 = {
    9801: Output.SEG,
    9802: Output.RADIOMICS,
    9803: Output.LANDMARKS,
    9804: Output.BODY_LANDMARKS,
    9805: Output.BODY_REGIONS,
    9806: Output.VIEWER_LANDMARKS,
    9807: Output.RTSTRUCT,
    9808: Output.PREVIEW,
    9809: Output.CHECKS,
    9810: Output.INPUT_QUALITY,
}
"""SeriesNumbers that results had before `RESULTS_VERSION` 3."""


def kind_of(series_number: int) -> Output:
    """Return the kind of a result, given its SeriesNumber; raise KeyError if it is not one of ours."""
    if series_number < FIRST_NUMBER:
        return _UNTIL_VERSION_2[series_number]
    return _OF_PLACE[series_number // 10 % 100]


def reference_of(result: Dataset) -> StoredObject:
    """Make a reference to one of our results."""
    return StoredObject(
        kind_of(int(result.SeriesNumber)),
        str(result.SOPClassUID),
        str(result.StudyInstanceUID),
        str(result.SeriesInstanceUID),
        str(result.SOPInstanceUID),
        False,
    )
