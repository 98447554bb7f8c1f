"""Compare what models find with what the header says: contrast of the blood, and the part of the body."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.input_quality import InputCheck, InputFigure
from orthanc_plugin.domain.masks import Mask, Segmentation, box_of
from orthanc_plugin.domain.volume import CtSeries, Voxels
from orthanc_plugin.quality.scan import HU, RATIO

CONTRAST_HU = 100.0
"""Blood without contrast lies at 30 to 60 HU, with contrast above 100 HU in every phase but the late ones."""

LEAST_COVERAGE = 0.1
"""The part of the region that BodyPartExamined names which must lie in the scan."""

BLOOD_POOLS = ("15825003", "80891009")
"""SNOMED CT codes of the structures whose blood is measured: aorta, else heart."""

REGIONS: dict[str, tuple[Region, ...]] = {
    "HEAD": (Region.HEAD,),
    "BRAIN": (Region.HEAD,),
    "SKULL": (Region.HEAD,),
    "NECK": (Region.SHOULDER_NECK,),
    "SHOULDER": (Region.SHOULDER_NECK,),
    "CHEST": (Region.CHEST,),
    "THORAX": (Region.CHEST,),
    "LUNG": (Region.CHEST,),
    "HEART": (Region.CHEST,),
    "ABDOMEN": (Region.ABDOMEN,),
    "LIVER": (Region.ABDOMEN,),
    "KIDNEY": (Region.ABDOMEN,),
    "PANCREAS": (Region.ABDOMEN,),
    "PELVIS": (Region.PELVIS,),
    "BLADDER": (Region.PELVIS,),
    "PROSTATE": (Region.PELVIS,),
    "HIP": (Region.PELVIS,),
    "LEG": (Region.LEGS,),
    "KNEE": (Region.LEGS,),
    "CHESTABDOMEN": (Region.CHEST, Region.ABDOMEN),
    "CHESTABDPELVIS": (Region.CHEST, Region.ABDOMEN, Region.PELVIS),
    "ABDOMENPELVIS": (Region.ABDOMEN, Region.PELVIS),
    "HEADNECK": (Region.HEAD, Region.SHOULDER_NECK),
    "NECKCHEST": (Region.SHOULDER_NECK, Region.CHEST),
}
"""Values of BodyPartExamined (PS3.16 Annex L, and `THORAX`) whose place in the body is known here."""

_EROSION_MM = 3.0
_LEAST_VOXELS = 50


def contrast(series: CtSeries, masks: Sequence[Segmentation]) -> InputFigure:
    """Measure the blood pool in the aorta, else in the heart, and compare it with ContrastBolusAgent."""
    stated = any(str(header.get("ContrastBolusAgent") or "").strip() for header in series.headers)
    said = "ContrastBolusAgent is stated" if stated else "no ContrastBolusAgent is stated"
    pool = _blood_pool(series, masks)
    if pool is None:
        told = f"{said}; no model found the aorta or the heart"
        return InputFigure(InputCheck.CONTRAST, None, None, HU, told)
    name, blood_hu = pool
    seen = blood_hu >= CONTRAST_HU
    told = f"{said}; blood in the {name} has {blood_hu:.0f} HU, {'with' if seen else 'without'} contrast"
    return InputFigure(InputCheck.CONTRAST, seen is stated, blood_hu, HU, told)


def body_part(series: CtSeries, location: BodyLocation | None) -> InputFigure:
    """Compare BodyPartExamined with where body part regression places the scan; the value is the part covered."""
    stated = {str(header.get("BodyPartExamined") or "").strip().upper() for header in series.headers} - {""}
    regions = {region for value in stated for region in REGIONS.get(re.sub("[^A-Z]", "", value), ())}
    if location is None or location.reason:
        return InputFigure(InputCheck.BODY_PART, None, None, RATIO, "where the scan lies in the body is not known")
    if not regions:
        told = f"the scan shows {location.tag}; BodyPartExamined is absent or names no region known here"
        return InputFigure(InputCheck.BODY_PART, None, None, RATIO, told)
    covered = min(location.coverage.get(region, 0.0) for region in regions)
    named = " and ".join(sorted(regions))
    told = f"the scan shows {location.tag}; BodyPartExamined says {named}, of which {covered:.0%} lie in the scan"
    return InputFigure(InputCheck.BODY_PART, covered >= LEAST_COVERAGE, covered, RATIO, told)


def _blood_pool(series: CtSeries, masks: Sequence[Segmentation]) -> tuple[str, float] | None:
    """Name and median HU of the first blood pool that any model found, away from its wall."""
    for code in BLOOD_POOLS:
        for segmentation in masks:
            for segment in (s for s in segmentation.segments if s.type.value == code):
                values = _inside(series, segmentation.mask(segment))
                if len(values) >= _LEAST_VOXELS:
                    return segment.type.meaning.lower(), float(np.median(values))
    return None


def _inside(series: CtSeries, mask: Mask) -> Voxels:
    box = box_of(mask)
    if box is None:
        return np.empty(0, np.float32)
    rounds = max(1, round(_EROSION_MM / max(series.volume.spacing_mm)))
    core = ndimage.binary_erosion(mask[box], iterations=rounds)
    return np.asarray(series.volume.voxels_hu[box][core])
