"""The slices that a model with a field of its own sees: head and neck, by body part regression or by the skull."""

from __future__ import annotations

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.pipeline.location import Crop, slices_of
from orthanc_plugin.quality.head import skull_slices

NECK_MM = 360.0
"""How far below the lowest slice of the skull's cavity a model sees; no contour of OpenKBP lies lower."""

CROWN_MM = 120.0
"""How far above its highest slice the head goes on, of which the cavity of some slices is not recognised."""

NOT_SHOWN = "did not run: the scan shows no head, and this model is made for head and neck only"


def head_and_neck(volume: Volume, location: BodyLocation | None) -> Crop | None:
    """Cut out head and neck; return None if the scan does not show the cavity of a skull.

    Body part regression, where it ran and knows the place, has the first word: a scan without a slice of the head or of
    shoulder and neck is none of head and neck. What lies further from the skull is no head and neck either, such as the
    legs of a scan that is stored upside down.
    """
    if location is not None and _shows_other_parts_only(location):
        return None
    if (skull := skull_slices(volume)) is None:
        return None
    step_mm = volume.spacing_mm[0]
    first = max(0, skull[0] - round(NECK_MM / step_mm))
    last = min(len(volume.voxels_hu) - 1, skull[1] + round(CROWN_MM / step_mm))
    return Crop(
        first, last, slices_of(volume, first, last),
        settings=f"cropped to head and neck, {NECK_MM:g} mm below and {CROWN_MM:g} mm above the skull",
        why=f"head and neck, from {NECK_MM:g} mm below to {CROWN_MM:g} mm above the slices in which bone encloses"
        " the brain",
    )  # fmt: skip


def _shows_other_parts_only(location: BodyLocation) -> bool:
    """Tell whether body part regression knows the place of a scan, and it is neither head nor neck."""
    head = location.regions.get(Region.HEAD) or location.regions.get(Region.SHOULDER_NECK)
    return not location.reason and bool(location.regions) and not head
