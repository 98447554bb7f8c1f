"""Several images at each height (4D, perfusion, arterial and venous) told apart, and the phase that a rule chose.

Phases are told apart by the first attribute that every image has and that leaves one image a height in each phase; the
attributes made for that come before acquisition numbers, and those before times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from orthanc_plugin.domain.reading import Phase

_TELLING = (
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset",
    "NominalPercentageOfCardiacPhase",
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfRespiratoryPhase",
    "NominalRespiratoryTriggerDelayTime",
    "ActualRespiratoryTriggerDelayTime",
    "TriggerTime",
    "StackID",
    "FrameAcquisitionNumber",
    "AcquisitionNumber",
    "FrameReferenceDateTime",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
_FEWEST_IMAGES = 3
_LEAST_OF_HEIGHTS = 0.5
"""A phase that shows less than half of the heights is a part of one: the attribute tells something else."""

_Value = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The images of one phase.

    indices: of the images, rising.
    mark: which phase it is, for the results.
    """

    indices: tuple[int, ...]
    mark: str


def choose_phase(headers: Sequence[Dataset], heights: Sequence[Sequence[int]], phase: Phase) -> Chosen | None:
    """Choose one phase.

    Parameters
    ----------
    headers : sequence of Dataset
        One for each image.
    heights : sequence of sequence of int
        Indices of the images at each height.
    phase : Phase
        Not REFUSE. First and last by the value that tells phases apart; of equally large ones the first.

    Returns
    -------
    Chosen or None
        None where no attribute tells the phases apart.
    """
    height_of = {index: number for number, group in enumerate(heights) for index in group}
    for keyword in _TELLING:
        phases = _split(headers, keyword)
        if len(phases) < 2 or not all(_is_one_a_height(indices, height_of) for indices in phases.values()):
            continue
        value = _pick(phases, phase)
        if len(phases[value]) < _LEAST_OF_HEIGHTS * len(heights):
            continue
        place = sorted(phases).index(value) + 1
        mark = f"phase {place} of {len(phases)} by {keyword} ({phase}): {len(phases[value])} of {len(headers)} images"
        return Chosen(tuple(phases[value]), mark)
    return None


def _split(headers: Sequence[Dataset], keyword: str) -> dict[_Value, list[int]]:
    """Group indices by the value of an attribute; empty where an image has none."""
    phases: dict[_Value, list[int]] = {}
    for index, ds in enumerate(headers):
        if (value := _value(ds, keyword)) is None:
            return {}
        phases.setdefault(value, []).append(index)
    return phases


def _value(ds: Dataset, keyword: str) -> _Value | None:
    """Read a value so that numbers sort by size and times as texts."""
    try:
        value = ds.get(keyword)
    except ValueError:
        return None
    text = "" if value is None else str(value).strip()
    try:
        return float(text), ""
    except ValueError:
        return (0.0, text) if text else None


def _is_one_a_height(indices: Sequence[int], height_of: Mapping[int, int]) -> bool:
    return len(indices) >= _FEWEST_IMAGES and len({height_of[index] for index in indices}) == len(indices)


def _pick(phases: Mapping[_Value, Sequence[int]], phase: Phase) -> _Value:
    ordered = sorted(phases)
    if phase is Phase.LARGEST:
        return max(ordered, key=lambda value: len(phases[value]))
    return ordered[0] if phase is Phase.FIRST else ordered[-1]
