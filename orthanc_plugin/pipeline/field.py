"""The slices that a model with a field of its own sees: head and neck, by body part regression or by the skull."""

from __future__ import annotations

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.pipeline.location import Crop, slices_of
from orthanc_plugin.quality.head import skull_slices

NECK_MM = 240.0
"""How far below the lowest slice of the skull's cavity the neck goes on; in OpenKBP, contours of the cord end there."""

NOT_SHOWN = "did not run: the scan shows no head, and this model is made for head and neck only"


def head_and_neck(volume: Volume, location: BodyLocation | None) -> Crop | None:
    """Cut out head and neck; return None if the scan does not show the cavity of a skull.

    Body part regression, where it ran and knows the place, has the first word: a scan without a slice of the head or of
    shoulder and neck is none of head and neck.
    """
    known = location is not None and not location.reason and bool(location.regions)
    if (
        known
        and location is not None
        and not (location.regions.get(Region.HEAD) or location.regions.get(Region.SHOULDER_NECK))
    ):
        return None
    if (skull := skull_slices(volume)) is None:
        return None
    first = max(0, skull[0] - round(NECK_MM / volume.spacing_mm[0]))
    last = len(volume.voxels_hu) - 1
    return Crop(
        first, last, slices_of(volume, first, last),
        settings=f"cropped to head and neck, {NECK_MM:g} mm below the skull",
        why=f"head and neck, to {NECK_MM:g} mm below the lowest slice in which bone encloses the brain",
    )  # fmt: skip
