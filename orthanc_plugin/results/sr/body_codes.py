"""Landmarks and regions of body part regression as coded anatomy: structure, and which end or middle of it.

The published annotations with their errors corrected: a pelvis with a wrong check digit, legs that were lower legs, a
shoulder that was missing. The kidney has no modifier there, and none is invented here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from orthanc_plugin.codes import BOTTOM, CENTER, LUNG, TOP, Code
from orthanc_plugin.domain.body import Region


@dataclass(frozen=True, slots=True)
class Level:
    """Where on a structure a landmark lies."""

    structure: Code
    modifier: Code | None

    @property
    def meaning(self) -> str:
        """For people: `Lung, top`."""
        return f"{self.structure.meaning}, {self.modifier.meaning.lower()}" if self.modifier else self.structure.meaning


_VERTEBRAE = {
    "C1": "14806007",
    "C2": "39976000",
    "C3": "113205007",
    "C4": "5329002",
    "C5": "36978003",
    "C6": "36054005",
    "C7": "87391001",
    "Th1": "64864005",
    "Th2": "53733008",
    "Th3": "1626008",
    "Th4": "73071006",
    "Th5": "56401006",
    "Th6": "45296009",
    "Th7": "62487009",
    "Th8": "11068009",
    "Th9": "82687006",
    "Th10": "7610001",
    "Th11": "12989004",
    "Th12": "23215003",
    "L1": "66794005",
    "L2": "14293000",
    "L3": "36470004",
    "L4": "11994002",
    "L5": "49668003",
}
_PELVIS = Code("816092008", "SCT", "Pelvis")
_HEAD = Code("69536005", "SCT", "Head")

LEVELS: Mapping[str, Level] = MappingProxyType(
    {key: Level(Code(value, "SCT", f"{key.replace('Th', 'T')} vertebra"), CENTER) for key, value in _VERTEBRAE.items()}
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
"""By the key of the look-up table.

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
"""One code a region, two where no code covers it. Source: as for `LEVELS`."""
