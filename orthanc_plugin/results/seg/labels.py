"""Names in a SEG: labels that fit 64 characters and still lead back to the card, and the structures not found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.domain.masks import Segment

LONG_STRING = 64
"""Characters of a SegmentLabel (VR LO, PS3.5 6.2)."""

LONG_TEXT = 10240
"""Characters of ImageComments (VR LT)."""

NOT_FOUND_CHARACTERS = 4096
"""Of the list of structures that were not found; 104 anatomical names take half of it. Reports repeat the list."""

_REMAINDER = " outside the other segments"


def segment_label(label: str) -> str:
    """SegmentLabel of a structure: its label, cut to 64 characters so that no two become equal."""
    return _cut(label, LONG_STRING)


def remainder_label(label: str) -> str:
    """SegmentLabel of what is left of a structure without those inside it."""
    return _cut(label, LONG_STRING - len(_REMAINDER)) + _REMAINDER


def labels_by_name(card: ModelCard) -> Mapping[str, CardLabel]:
    """The card's structures by each SegmentLabel they can have."""
    return {name(label.label): label for label in card.labels for name in (segment_label, remainder_label)}


def not_found(card: ModelCard, segments: Iterable[Segment]) -> tuple[str, ...]:
    """A note with the structures that the model looks for and did not find; none where all were found."""
    found = {segment.key for segment in segments}
    absent = [label.label for label in card.labels if label.key not in found]
    return (f"not found: {_listed(absent)}",) if absent else ()


def comments(notes: Iterable[str]) -> str:
    """Notes as ImageComments, one a line."""
    return "\n".join(notes)[:LONG_TEXT]


def _cut(label: str, limit: int) -> str:
    text = label.replace("\\", "/").strip()
    return text if len(text) <= limit else f"{text[: limit - 7]}~{identity.digest(label)[:6]}"


def _listed(names: list[str]) -> str:
    """The names, as many as the note takes, and how many more."""
    kept, length = 0, 0
    while kept < len(names) and (length := length + len(names[kept]) + 2) <= NOT_FOUND_CHARACTERS:
        kept += 1
    more = f" and {len(names) - kept} more" if kept < len(names) else ""
    return ", ".join(names[:kept]) + more
