"""The stages of a job: from a vouched series to stored objects.

Loader, models, store and clock are passed in; nothing here knows HTTP or queues. Each stage first looks whether its
object is stored already and adopts it (first stored wins). Everything after the SEG is made from the SEG as stored, so
a report never contradicts its segmentation.
"""

from orthanc_plugin.pipeline.closing import Checked, check, export
from orthanc_plugin.pipeline.context import Context, ObjectStore, ReadBack, ReportResult, StoredMasks
from orthanc_plugin.pipeline.location import Crop, LocateResult, Locator, crop_to, locate, report_location
from orthanc_plugin.pipeline.organs import (
    SegmentResult,
    measure,
    report,
    searched_slices,
    segment,
    segment_part,
)

__all__ = [
    "Checked",
    "Context",
    "Crop",
    "LocateResult",
    "Locator",
    "ObjectStore",
    "ReadBack",
    "ReportResult",
    "SegmentResult",
    "StoredMasks",
    "check",
    "crop_to",
    "export",
    "locate",
    "measure",
    "report",
    "report_location",
    "searched_slices",
    "segment",
    "segment_part",
]
