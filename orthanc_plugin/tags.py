"""What rules look at: the tags of one series as a whole, from its headers and from Orthanc's own metadata."""

from __future__ import annotations

from enum import StrEnum


class ImageKind(StrEnum):
    """Kinds of CT images that are no plain axial acquisition, as ImageType tells them."""

    LOCALIZER = "localizer"
    REFORMAT = "reformat"
    PROJECTION = "projection"
    MONOENERGETIC = "monoenergetic"
    MATERIAL = "material"
    SCREEN_SAVE = "screen-save"
    PERFUSION = "perfusion"
    DYNAMIC = "dynamic"
