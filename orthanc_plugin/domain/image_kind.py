"""Tell from ImageType which CT images are not plain axial acquisitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum


class ImageKind(StrEnum):
    """Kinds of CT images that are not plain axial acquisitions."""

    LOCALIZER = "localizer"
    REFORMAT = "reformat"
    PROJECTION = "projection"
    MONOENERGETIC = "monoenergetic"
    MATERIAL = "material"
    SCREEN_SAVE = "screen-save"
    PERFUSION = "perfusion"
    DYNAMIC = "dynamic"


# Words in a value of ImageType; signs between words count as a space. Source: PS3.3 C.8.2.1.1.1, C.8.15.2 and
# C.8.16.2 (VMI, MAT_SPECIFIC, MAX_IP, ...), and what scanners and workstations of the large vendors write in addition.
_KINDS = {
    ImageKind.LOCALIZER: r"LOCALI[SZ]ER|SCOUT|TOPO(GRAM)?|TOP|SURVIEW|SCANO(GRAM)?",
    ImageKind.REFORMAT: r"(CSA ?)?MPR\w*|CPR|REFORMAT\w*|RESAMPLED|CSA ?(PARALLEL|RADIAL|RESAMPLED)|MULTI ?PLANAR",
    ImageKind.PROJECTION: r"\w*MIP|\w*MINIP|(MAX|MIN|AVG?) ?IP|MNIP|PROJECTION|MAXIMUM|MINIMUM|VRT|SSD|RAY ?SUM"
    r"|(VOLUME|SURFACE) ?RENDER\w*",
    ImageKind.MONOENERGETIC: r"MONO(?!CHROME)\w*|VMI\w*|\d* ?KEV",
    ImageKind.MATERIAL: r"IODINE?\w*|WATER|VNC\w*|VUE|VIRTUAL (NON ?CONTRAST|UNENHANCED|NATIVE)|Z ?EFF\w*|EFFECTIVE Z"
    r"|EFF ATOMIC NUM\w*|RHO|ELECTRON DENSITY|CALCIUM(?! SCOR)\w*|CA ?SUPP\w*|URIC ?ACID|GOUT|PBV|MATERIAL\w*"
    r"|MAT (SPECIFIC|REMOVED|FRACTIONAL|MODIFIED|VALUE BASED)|CONTRAST ENHANCED STRUCTURES"
    r"|SUBTRACT\w*|DIVISION|MULTIPLICATION|QUANTITY|STD DEVIATION",
    ImageKind.SCREEN_SAVE: r"SCREEN ?(SAVE|SHOT|CAPTURE)|SECONDARY CAPTURE|DOSE ?(INFO|REPORT)|PROT(OCOL)?",
    ImageKind.PERFUSION: r"PERF|PERFUS\w*|R?CB[FV]|TTP|MTT|TMAX|TTD|PERMEABILITY|BLOOD (FLOW|VOLUME)|FLOW EXTRACTION",
    ImageKind.DYNAMIC: r"4D\w*|MON|DYN|DYNAMIC\w*|CINE|FLUORO\w*|MOTION|TIME RESOLVED|MULTI ?PHASE",
}
_KIND_PATTERNS = {kind: re.compile(rf"\b({words})\b") for kind, words in _KINDS.items()}


def image_kinds(image_types: Iterable[str]) -> Mapping[ImageKind, str]:
    """Return the kinds that values of ImageType or Frame Type name, each with the first value that names it."""
    return {
        kind: value
        for value in reversed(tuple(image_types))
        for kind, pattern in _KIND_PATTERNS.items()
        if pattern.search(re.sub(r"[^A-Z0-9]+", " ", value.upper()))
    }
