"""Find which structures of a card a label map holds."""

from __future__ import annotations

from collections.abc import Sequence

from orthanc_plugin.catalog.card import CardLabel
from orthanc_plugin.domain.masks import Labels, Segment, label_counts


def segments_present(labels: Labels, of_card: Sequence[CardLabel]) -> tuple[Segment, ...]:
    """Return the labels of which the map (z, y, x) has a voxel, of their own or of a structure that they cover."""
    counts = label_counts(labels)
    return tuple(label for label in of_card if counts[list(label.covers)].any())
