"""Names of structures in radiotherapy: the primary names of AAPM TG-263, by code and side.

Only names that TG-263 publishes are listed; none is invented in its style. A structure without a primary name keeps
its label from the SEG.
"""

from __future__ import annotations

from collections.abc import Sequence

from orthanc_plugin.codes import BILATERAL, LEFT, RIGHT, Code
from orthanc_plugin.domain.masks import Segment
from orthanc_plugin.results.vertebrae import VERTEBRAE

_UNPAIRED = {
    "10200004": "Liver",
    "119238007": "Brainstem",
    "12691009": "A_Brachiocephls",
    "12738006": "Brain",
    "122972007": "V_Pulmonary",
    "15776009": "Pancreas",
    "15825003": "A_Aorta",
    "18639004": "Kidney_L",
    "2748008": "SpinalCord",
    "28231008": "Gallbladder",
    "30315005": "Bowel_Small",
    "3138006": "Bone",
    "32849002": "Esophagus",
    "3341006": "Lung_R",
    "38266002": "Body",
    "38848004": "Duodenum",
    "41216001": "Prostate",
    "44029006": "Lung_L",
    "44567001": "Trachea",
    "48345005": "V_Venacava_S",
    "53085002": "Ventricle_R",
    "54735007": "Sacrum",
    "64131007": "V_Venacava_I",
    "69695003": "Stomach",
    "69748006": "Glnd_Thyroid",
    "71854001": "Colon",
    "72410000": "Mediastinum",
    "72481006": "Lung_RML",
    "73829009": "Atrium_R",
    "76848001": "Pericardium",
    "78961009": "Spleen",
    "80891009": "Heart",
    "81040000": "A_Pulmonary",
    "82471001": "Atrium_L",
    "87878005": "Ventricle_L",
    "89546000": "Skull",
    "89837001": "Bladder",
    "91609006": "Bone_Mandible",
    "9846003": "Kidney_R",
    **{code: f"VB_T{int(name[1:]):02d}" if name.startswith("T") else f"VB_{name}" for name, code in VERTEBRAE.items()},
    "65985001": "VB_S1",
}
_PAIRED = {
    "23451007": "Glnd_Adrenal",
    "29836001": "Bone_Pelvic",
    "32062004": "A_Carotid",
    "36765005": "A_Subclavian",
    "39607008": "Lung",
    "45289007": "Parotid",
    "46027005": "V_Iliac",
    "51299004": "Clavicle",
    "64033007": "Kidney",
    "71341001": "Femur",
    "73634005": "A_Iliac",
    "76752008": "Breast",
    "79601000": "Scapula",
    "85050009": "Humerus",
    "8887007": "V_Brachioceph",
    "48535007": "Rib01",
    "78247007": "Rib02",
    "25888004": "Rib03",
    "25523003": "Rib04",
    "15339008": "Rib05",
    "59558009": "Rib06",
    "24915002": "Rib07",
    "5953002": "Rib08",
    "22565002": "Rib09",
    "77644006": "Rib10",
    "58830002": "Rib11",
    "43993008": "Rib12",
}
_OTHER: dict[tuple[str, str | None], str] = {
    ("39607008", BILATERAL.value): "Lungs",
    ("45289007", BILATERAL.value): "Parotids",
    ("64033007", BILATERAL.value): "Kidneys",
    ("71341001", BILATERAL.value): "Femurs",
    ("76752008", BILATERAL.value): "Breasts",
    ("45653009", LEFT.value): "Lung_LUL",
    ("90572001", LEFT.value): "Lung_LLL",
    ("45653009", RIGHT.value): "Lung_RUL",
    ("90572001", RIGHT.value): "Lung_RLL",
}

PRIMARY_NAMES: dict[tuple[str, str | None], str] = {
    **{(code, None): name for code, name in _UNPAIRED.items()},
    **{(code, LEFT.value): f"{name}_L" for code, name in _PAIRED.items()},
    **{(code, RIGHT.value): f"{name}_R" for code, name in _PAIRED.items()},
    **_OTHER,
}
"""TG-263 primary names, at most 16 characters, by SNOMED CT code of the structure and of its side.

Source: AAPM Task Group 263 (Mayo et al., Int J Radiat Oncol Biol Phys 2018;100:1057), nomenclature worksheet of
2017-08-15.
"""


def primary_name(kind: Code, side: Code | None) -> str | None:
    """Look up the TG-263 name of a structure; None if it has none."""
    return PRIMARY_NAMES.get((kind.value, side.value if side else None)) if kind.scheme == "SCT" else None


def roi_names(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Give each segment a unique ROIName: its primary name, or else its label.

    Repeated names are numbered (`Heart`, `Heart 2`), because planning systems identify ROIs by name.
    """
    names: list[str] = []
    for segment in segments:
        name = primary_name(segment.type, segment.modifier) or segment.label.replace("\\", "/").strip()
        numbered = (f"{name[:60]} {number}" for number in range(2, len(segments) + 2))
        names.append(name[:64] if name[:64] not in names else next(other for other in numbered if other not in names))
    return tuple(names)
