"""Code the landmarks and regions of body part regression as a structure and, if known, its end or middle.

The codes are those of the published annotations with three errors corrected: Pelvis had a wrong check digit, legs were
coded as lower legs, and the shoulder was missing. The kidney has no modifier there, and none is invented here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from orthanc_plugin.codes import BOTTOM, CENTER, LUNG, TOP, Code
from orthanc_plugin.domain.body import Region
from orthanc_plugin.results.vertebrae import VERTEBRAE


@dataclass(frozen=True, slots=True)
class Level:
    """Where on a structure a landmark lies."""

    structure: Code
    modifier: Code | None

    @property
    def meaning(self) -> str:
        """Text for people, such as `Lung, top`."""
        return f"{self.structure.meaning}, {self.modifier.meaning.lower()}" if self.modifier else self.structure.meaning


_PELVIS = Code("816092008", "SCT", "Pelvis")
_HEAD = Code("69536005", "SCT", "Head")

LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        name.replace("T", "Th"): Level(Code(value, "SCT", f"{name} vertebra"), CENTER)
        for name, value in VERTEBRAE.items()
    }
    | {
        "pelvis_start": Level(_PELVIS, BOTTOM),
        "femur_end": Level(Code("71341001", "SCT", "Femur"), TOP),
        "pelvis_end": Level(_PELVIS, TOP),
        "kidney": Level(Code("64033007", "SCT", "Kidney"), None),
        "lung_start": Level(LUNG, BOTTOM),
        "lung_end": Level(LUNG, TOP),
        "liver_end": Level(Code("10200004", "SCT", "Liver"), TOP),
        "teeth": Level(Code("28035005", "SCT", "Teeth, gums and supporting structures"), CENTER),
        "nose": Level(Code("45206002", "SCT", "Nose"), BOTTOM),
        "eyes_end": Level(Code("81745001", "SCT", "Eye"), TOP),
        "head_end": Level(_HEAD, TOP),
    }
)
"""Levels by the key of the model's look-up table.

Source: Krishnaswamy et al., Scientific Data 2024, code mapping of its BPR annotations, corrected.
"""

REGIONS: Mapping[Region, tuple[Code, ...]] = MappingProxyType(
    {
        Region.LEGS: (Code("61685007", "SCT", "Lower limb"),),
        Region.PELVIS: (_PELVIS,),
        Region.ABDOMEN: (Code("818981001", "SCT", "Abdomen"),),
        Region.CHEST: (Code("816094009", "SCT", "Chest"),),
        Region.SHOULDER_NECK: (Code("45048000", "SCT", "Neck"), Code("16982005", "SCT", "Shoulder")),
        Region.HEAD: (_HEAD,),
    }
)
"""One code per region, or two if no single code covers it. Source: as for `LEVELS`."""
