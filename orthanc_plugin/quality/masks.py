"""Check one model's masks: whether each structure is whole, in one piece, on its side, in place and of adult size.

The checks are those that the Imaging Data Commons applies to published segmentations, and more. Every rule is geometry
with a threshold that is declared here. None can tell that a mask is right; all find masks that cannot be right. A check
that does not apply to a structure gives no result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import ENTIRE_BODY, LEFT, LUNG, RIGHT, TISSUE, Code
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.evenness import LEAST_GAS_ML, contrast_ml, even_gas_ml
from orthanc_plugin.domain.masks import Mask, Segment, Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality import image_edge, open_air
from orthanc_plugin.quality.profile import Profile, profiles
from orthanc_plugin.quality.structures import (
    AIRWAYS,
    BONE,
    HEART,
    LUNGS,
    kind_of,
    structure_of,
)
from orthanc_plugin.quality.tissue import enclosed_voxels, tissue

PIECE_ML, PIECE_PART = 1.0, 0.05
"""A piece counts from 1 mL, or from 5 % of the structure if that is less."""
MIDLINE_TOLERANCE_MM = 20.0
"""How far beyond the middle of the body the centroid of a left or right structure may lie."""
PART_INSIDE = 0.95
"""Least part of a lung that tissue must enclose."""
PARTNER_PART = 0.1
"""Least volume of the other lung, compared with this one."""
CONTRAST_ML = 4.0
"""Even parts of bone count from 4 mL."""
EDGE_MM2 = 100.0
"""From this area of contact with the edge of the image, an organ is cut."""
OPEN_MM2 = 500.0
"""From this area of contact with air around the body in the next slice, a lung is open."""

SLICES = Code("{slices}", "UCUM", "slices")
PIECES = Code("{pieces}", "UCUM", "pieces")
MM = Code("mm", "UCUM", "millimeter")
MM2 = Code("mm2", "UCUM", "square millimeter")
ML = Code("mL", "UCUM", "milliliter")
RATIO = Code("1", "UCUM", "no units")


@dataclass(frozen=True, slots=True)
class _Finding:
    """Answer of one check about one segment."""

    check: Check
    passed: bool
    value: float
    unit: Code
    detail: str


@dataclass(frozen=True)
class _Case:
    """One segmentation, with what several checks need."""

    volume: Volume
    segmentation: Segmentation
    searched: tuple[int, int]
    knows_both_lungs: bool

    @cached_property
    def profiles(self) -> dict[int, Profile]:
        """Profiles by segment number; a structure without a voxel has none."""
        return dict(profiles(self.segmentation))

    @cached_property
    def middle_mm(self) -> float | None:
        """LPS x of the middle of the body; None if there is no tissue."""
        body = tissue(self.volume)
        return self._x_mm(body) if body.voxels else None

    @cached_property
    def padding(self) -> Mask:
        """Pixels (y, x) that hold no image."""
        return image_edge.padding(self.volume)

    @cached_property
    def around(self) -> open_air.Around:
        """Air around the body."""
        return open_air.around(self.volume)

    @cached_property
    def enclosed(self) -> NDArray[np.intp]:
        """Number of voxels of each label value that tissue encloses, counted at the height of the lungs."""
        ends = np.array([self.profiles[lung.number].slices for lung in self._present() if _is_lung(lung)])
        return enclosed_voxels(self.volume, self.segmentation.labels, int(ends[:, 0].min()), int(ends[:, 1].max()))

    def x_mm(self, segment: Segment) -> float:
        """Compute LPS x of the centroid; it rises to the patient's left."""
        return self._x_mm(self.profiles[segment.number])

    def margin(self, segment: Segment) -> int:
        """Count the empty slices between a structure and the nearer end of what was searched."""
        first, last = self.profiles[segment.number].slices
        return max(0, min(first - self.searched[0], self.searched[1] - last))

    def reaches(self, segment: Segment) -> tuple[bool, bool]:
        """Tell whether a structure reaches the first and the last slice of what was searched."""
        first, last = self.profiles[segment.number].slices
        return first <= self.searched[0], last >= self.searched[1]

    def partner(self, segment: Segment) -> Segment | None:
        """Find the same structure on the other side."""
        other = {LEFT.value: RIGHT.value, RIGHT.value: LEFT.value}[kind_of(segment)[1]]
        return next((s for s in self._present() if kind_of(s) == (segment.type.value, other)), None)

    def lung(self, side: Code) -> Profile | None:
        """Add up one lung, or its lobes."""
        kind = (LUNG.value, side.value)
        parts = [self.profiles[s.number] for s in self._present() if kind_of(s) in LUNGS[kind] | {kind}]
        return sum(parts[1:], parts[0]) if parts else None

    def _present(self) -> list[Segment]:
        return [segment for segment in self.segmentation.segments if segment.number in self.profiles]

    def _x_mm(self, profile: Profile) -> float:
        return float(profile.centroid_mm(self.volume.affine)[0])


def check_masks(
    volume: Volume, segmentation: Segmentation, card: ModelCard, searched: tuple[int, int] | None = None
) -> tuple[CheckResult, ...]:
    """Run every check that applies to a structure.

    Parameters
    ----------
    volume : Volume
        The CT; its affine says where left and up are, so slices may lie in any direction.
    segmentation : Segmentation
        Masks of one model on the grid of the volume, as found or as decoded from a SEG. `segment_number` of the
        results is the number of the segment here: the model's own before the SEG is stored, the stored SegmentNumber
        after `decode_seg`.
    card : ModelCard
        The model. A structure whose key is not in the card is the remainder that a SEG stores of one that covers
        others; it is not checked.
    searched : tuple of int, optional
        First and last slice that the model saw; all by default.

    Returns
    -------
    tuple of CheckResult
        By segment, then in the order of `Check`; none for segments without a voxel.

    Source
    ------
    Completeness, connected components and laterality: Krishnaswamy et al., Rule-based outlier detection of
    AI-generated anatomy segmentations, arXiv 2406.14486. The others are our own; docs/quality.md.
    """
    lungs = {kind_of(label) for label in card.labels} & LUNGS.keys()
    case = _Case(volume, segmentation, searched or (0, len(volume.voxels_hu) - 1), len(lungs) == len(LUNGS))
    keys = {label.key for label in card.labels}
    asked = [s for s in segmentation.segments if s.key in keys and s.number in case.profiles]
    findings = [(segment, finding) for segment in asked for ask in _ASKED if (finding := ask(case, segment))]
    return tuple(
        CheckResult(f.check, card.name, s.number, s.key, f.passed, f.value, f.unit, f.detail) for s, f in findings
    )


def _complete(case: _Case, segment: Segment) -> _Finding | None:
    """Not for the body and tissues, which no CT shows whole."""
    if not _can_be_whole(segment):
        return None
    margin = case.margin(segment)
    whole = f"{margin} empty slices between the structure and the nearest end of the analysed range"
    detail = whole if margin else "cut off at an end of the analysed range"
    return _Finding(Check.COMPLETE, margin > 0, margin, SLICES, detail)


def _one_piece(case: _Case, segment: Segment) -> _Finding | None:
    """Count what reaches an end of the analysed range as one piece, because it may be connected beyond that end."""
    structure = structure_of(segment)
    if structure is None or not structure.single:
        return None
    sizes_ml = _piece_sizes(_mask(case, segment), *case.reaches(segment)) * case.volume.voxel_ml
    pieces = 1 + int((sizes_ml[1:] >= min(PIECE_ML, PIECE_PART * sizes_ml.sum())).sum())
    detail = "one piece" if pieces == 1 else f"{pieces} pieces, the second of {sizes_ml[1]:.1f} mL"
    return _Finding(Check.ONE_PIECE, pieces == 1, pieces, PIECES, detail)


def _piece_sizes(mask: Mask, first: bool, last: bool) -> NDArray[np.intp]:
    """Count the voxels of the components (26 neighbours), largest first; all at the first or last slice are one."""
    numbered, pieces = ndimage.label(mask, np.ones((3, 3, 3)))
    # Plane by plane, because one count over a pair of lungs would widen 15 M labels to 8 bytes each.
    sizes = sum((np.bincount(plane.ravel(), minlength=pieces + 1) for plane in numbered), np.zeros(pieces + 1, np.intp))
    at_ends = {*(numbered[0].ravel() if first else ()), *(numbered[-1].ravel() if last else ())} - {0}
    joined = [int(sizes[number]) for number in range(1, pieces + 1) if number not in at_ends]
    joined += [int(sizes[[*at_ends]].sum())] if at_ends else []
    return np.sort(np.array(joined))[::-1]


def _mask(case: _Case, segment: Segment) -> Mask:
    """Make the mask of a structure inside its box."""
    labels = case.segmentation.labels[case.profiles[segment.number].box]
    return np.asarray(reduce(np.logical_or, (labels == value for value in segment.covers)))


def _side(case: _Case, segment: Segment) -> _Finding | None:
    """Compare with the partner, or with the middle of the body if there is no partner."""
    sign = {LEFT.value: 1.0, RIGHT.value: -1.0}.get(kind_of(segment)[1])
    if sign is None:
        return None
    x_mm, middle_mm, partner = case.x_mm(segment), case.middle_mm, case.partner(segment)
    beyond = middle_mm is not None and sign * (x_mm - middle_mm) < -MIDLINE_TOLERANCE_MM
    if partner is not None:
        offset = sign * (x_mm - case.x_mm(partner))
        passed, reference = offset > 0 and not beyond, partner.label
    elif middle_mm is not None:
        offset = sign * (x_mm - middle_mm)
        passed, reference = not beyond, "the middle of the body"
    else:
        return None
    side = "left" if sign > 0 else "right"
    detail = f"{offset:.0f} mm to the {side} of {reference}" + (", beyond the middle of the body" if beyond else "")
    return _Finding(Check.SIDE, passed, offset, MM, detail)


def _volume(case: _Case, segment: Segment) -> _Finding | None:
    """Not for structures that are cut."""
    structure = structure_of(segment)
    if structure is None or structure.volume is None or not case.margin(segment):
        return None
    low, high = structure.volume.asked_ml
    volume_ml = case.profiles[segment.number].voxels * case.volume.voxel_ml
    detail = f"{volume_ml:.1f} mL, expected {low:.4g} to {high:.4g} mL ({structure.volume.source})"
    return _Finding(Check.VOLUME, low <= volume_ml <= high, volume_ml, ML, detail)


def _inside_body(case: _Case, segment: Segment) -> _Finding | None:
    """Not for lungs that the edge of the image cuts, because the body around them is missing."""
    profile = case.profiles[segment.number]
    if not _is_lung(segment) or profile.meets_image_edge:
        return None
    part = float(case.enclosed[list(segment.covers)].sum()) / profile.voxels
    return _Finding(
        Check.INSIDE_BODY, part >= PART_INSIDE, part, RATIO, f"{100 * part:.1f} % lie between tissue on all sides"
    )


def _between_lungs(case: _Case, segment: Segment) -> _Finding | None:
    """Only if the model finds both lungs, or lobes of both."""
    left, right = case.lung(LEFT), case.lung(RIGHT)
    if segment.type.value != HEART or left is None or right is None:
        return None
    affine, heart = case.volume.affine, case.profiles[segment.number]
    x_left, x_right = (float(lung.centroid_mm(affine)[0]) for lung in (left, right))
    across = (case.x_mm(segment) - x_right) / (x_left - x_right) if x_left != x_right else -1.0
    (low, high), (lungs_low, lungs_high) = (p.extent_mm(affine)[:, 2] for p in (heart, left + right))
    level = bool(low <= lungs_high and high >= lungs_low)
    detail = f"{across:.2f} of the way from the right to the left lung" + ("" if level else ", not at their height")
    return _Finding(Check.BETWEEN_LUNGS, level and 0 < across < 1, across, RATIO, detail)


def _partner(case: _Case, segment: Segment) -> _Finding | None:
    """Not for models that have one lung only, or lobes."""
    if segment.type.value != LUNG.value or kind_of(segment) not in LUNGS or not case.knows_both_lungs:
        return None
    other = case.partner(segment)
    ratio = 0.0 if other is None else case.profiles[other.number].voxels / case.profiles[segment.number].voxels
    detail = "the other lung was not found" if other is None else f"the other lung has {ratio:.2f} of its volume"
    return _Finding(Check.PARTNER, ratio >= PARTNER_PART, ratio, RATIO, detail)


def _gas(case: _Case, segment: Segment) -> _Finding | None:
    """Only for lungs and lobes."""
    if not _is_lung(segment):
        return None
    gas_ml = even_gas_ml(case.volume, _mask(case, segment), case.profiles[segment.number].box)
    detail = f"{gas_ml:.0f} mL of gas without vessels (pneumothorax, bulla, or gas of stomach or bowel)"
    return _Finding(Check.GAS, gas_ml < LEAST_GAS_ML, gas_ml, ML, detail)


def _contrast(case: _Case, segment: Segment) -> _Finding | None:
    """Only for bone as one structure."""
    if segment.type.value != BONE:
        return None
    even_ml = contrast_ml(case.volume, _mask(case, segment), case.profiles[segment.number].box)
    return _Finding(Check.CONTRAST, even_ml < CONTRAST_ML, even_ml, ML, f"{even_ml:.1f} mL as even as contrast medium")


def _in_image(case: _Case, segment: Segment) -> _Finding | None:
    """Only for lungs and lobes: other organs of a small field of view are cut more often than not."""
    if not _is_lung(segment):
        return None
    box = case.profiles[segment.number].box
    area = image_edge.edge_contact_mm2(case.volume, _mask(case, segment), box, case.padding)
    detail = f"{area:.0f} mm2 at the edge of the image plane" if area else "away from the edge of the image plane"
    return _Finding(Check.IN_IMAGE, area < EDGE_MM2, area, MM2, detail)


def _closed(case: _Case, segment: Segment) -> _Finding | None:
    """Only for lungs and lobes."""
    if not _is_lung(segment):
        return None
    area = open_air.contact_mm2(case.volume, case.around, case.segmentation.labels, segment.covers)
    detail = f"{area:.0f} mm2 go on as air around the body in the next slice" if area else "closed on all sides"
    return _Finding(Check.CLOSED, area < OPEN_MM2, area, MM2, detail)


def _upright(case: _Case, segment: Segment) -> _Finding | None:
    """Only for airways of models that find lungs."""
    lungs = [lung for side in (LEFT, RIGHT) if (lung := case.lung(side)) is not None]
    if segment.type.value not in AIRWAYS or not lungs:
        return None
    affine = case.volume.affine
    above = float((case.profiles[segment.number].centroid_mm(affine) - reduce(add, lungs).centroid_mm(affine))[2])
    detail = f"{abs(above):.0f} mm {'above' if above > 0 else 'below'} the middle of the lungs"
    return _Finding(Check.UPRIGHT, above > 0, above, MM, detail)


def _can_be_whole(segment: Segment) -> bool:
    return segment.type.value != ENTIRE_BODY.value and segment.category.value != TISSUE.value


def _is_lung(segment: Segment) -> bool:
    return segment.type.value == LUNG.value or kind_of(segment) in frozenset().union(*LUNGS.values())


_ASKED: tuple[Callable[[_Case, Segment], _Finding | None], ...] = (
    _complete,
    _one_piece,
    _side,
    _volume,
    _inside_body,
    _between_lungs,
    _partner,
    _gas,
    _contrast,
    _in_image,
    _closed,
    _upright,
)
