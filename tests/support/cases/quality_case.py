"""A hand-made chest of boxes for quality checks: lungs, heart between them, spleen, in a body of water in air."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from orthanc_plugin.catalog.anatomy import known
from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.masks import Labels, Segment, Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality.masks import check_masks
from tests.support.cases.results_case import CARD

SHAPE, SPACING_MM = (40, 64, 64), (5.0, 4.0, 4.0)
"""0.08 mL a voxel."""
BOXES = {
    "lung_left": np.s_[6:30, 14:44, 45:60],
    "lung_right": np.s_[6:30, 14:44, 10:25],
    "heart": np.s_[10:22, 16:38, 25:45],
    "spleen": np.s_[2:6, 30:44, 45:60],
}
"""Slices, rows and columns of each box: x rises to the left, y to the back, z to the head."""


@dataclass(frozen=True)
class Chest:
    """Masks of one model with their CT."""

    volume: Volume
    labels: Labels
    keys: tuple[str, ...] = tuple(BOXES)
    name: str = "boxes"

    @property
    def card(self) -> ModelCard:
        """A card of these structures."""
        labels = tuple(CardLabel(number, key, *_codes(key), (number,), True) for number, key in self._numbered())
        return replace(CARD, name=self.name, labels=labels)

    @property
    def segmentation(self) -> Segmentation:
        """The masks as a segmentation; a structure may be empty."""
        segments = (Segment(number, key, *_codes(key), (number,)) for number, key in self._numbered())
        return Segmentation(self.labels, tuple(segments))

    def number(self, key: str) -> int:
        """Return the label value of a structure."""
        return self.keys.index(key) + 1

    def relabelled(self, *boxes: tuple[object, int]) -> Chest:
        """Copy the chest with other values in some boxes."""
        labels = self.labels.copy()
        for box, value in boxes:
            labels[box] = value  # type: ignore[index]
        return replace(self, labels=labels)

    def check(self, searched: tuple[int, int] | None = None) -> dict[tuple[str, Check], CheckResult]:
        """Run all checks; results by key and check."""
        results = check_masks(self.volume, self.segmentation, self.card, searched)
        return {(result.key, result.check): result for result in results}

    def _numbered(self) -> list[tuple[int, str]]:
        return list(enumerate(self.keys, start=1))


def chest() -> Chest:
    """Make a chest that passes every check."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, box in enumerate(BOXES.values(), start=1):
        labels[box] = number
    voxels = np.full(SHAPE, -1000, np.float32)
    voxels[:, 8:56, 4:62] = 40
    voxels[BOXES["lung_left"]] = voxels[BOXES["lung_right"]] = -800
    affine = np.diag((4.0, 4.0, 5.0, 1.0))
    affine[:3, 3] = (-128.0, -128.0, -300.0)
    return Chest(Volume(voxels, SPACING_MM, affine), labels)


def turned(case: Chest, axes: tuple[int, int, int], flips: tuple[int, ...]) -> Chest:
    """Turn the patient into slices of another direction: transpose (z, y, x) to `axes`, then reverse `flips`."""
    labels, voxels = case.labels.transpose(axes), case.volume.voxels_hu.transpose(axes)
    affine = case.volume.affine[:, [2 - axes[2], 2 - axes[1], 2 - axes[0], 3]]
    for axis in flips:
        labels, voxels = np.flip(labels, axis), np.flip(voxels, axis)
        affine[:3, 3] += affine[:3, 2 - axis] * (labels.shape[axis] - 1)
        affine[:3, 2 - axis] *= -1
    z, y, x = (SPACING_MM[axis] for axis in axes)
    volume = Volume(np.ascontiguousarray(voxels), (z, y, x), affine)
    return replace(case, volume=volume, labels=np.ascontiguousarray(labels))


def _codes(key: str) -> tuple[object, ...]:
    anatomy = known()[key]
    return anatomy.label, anatomy.category, anatomy.type, anatomy.modifier, anatomy.colour
