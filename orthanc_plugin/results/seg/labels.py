"""Name segments within 64 characters, so that each name leads back to its card, and list structures not found."""

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
"""Limit of the list of structures that were not found; 104 anatomical names take half of it. Reports repeat it."""

REMAINDER = " outside the other segments"
"""End of the label of a structure that is stored without those inside it."""


def segment_label(label: str) -> str:
    """Make the SegmentLabel of a structure: its label, cut to 64 characters so that no two become equal."""
    return _cut(label, LONG_STRING)


def remainder_label(label: str) -> str:
    """Make the SegmentLabel of a structure that is stored without those inside it."""
    return _cut(label, LONG_STRING - len(REMAINDER)) + REMAINDER


def labels_by_name(card: ModelCard) -> Mapping[str, CardLabel]:
    """Map each SegmentLabel that can occur to its structure in the card."""
    return {name(label.label): label for label in card.labels for name in (segment_label, remainder_label)}


def not_found(card: ModelCard, segments: Iterable[Segment]) -> tuple[str, ...]:
    """Write a note on the structures that the model did not find; no note if it found all."""
    found = {segment.key for segment in segments}
    absent = [label.label for label in card.labels if label.key not in found]
    return (f"not found: {_listed(absent)}",) if absent else ()


def comments(notes: Iterable[str]) -> str:
    """Write notes as ImageComments, one per line."""
    return "\n".join(notes)[:LONG_TEXT]


def _cut(label: str, limit: int) -> str:
    text = label.replace("\\", "/").strip()
    return text if len(text) <= limit else f"{text[: limit - 7]}~{identity.digest(label)[:6]}"


def _listed(names: list[str]) -> str:
    """List as many names as the note can hold, and count the rest."""
    kept, length = 0, 0
    while kept < len(names) and (length := length + len(names[kept]) + 2) <= NOT_FOUND_CHARACTERS:
        kept += 1
    more = f" and {len(names) - kept} more" if kept < len(names) else ""
    return ", ".join(names[:kept]) + more
