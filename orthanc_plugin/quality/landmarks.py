"""Find landmarks in masks: the slices where the lungs begin and end.

Nothing is guessed: if an organ touches the first or last slice that was searched, its end may lie beyond and is not
reported.
"""

from __future__ import annotations

import numpy as np

from orthanc_plugin.codes import BOTTOM, LUNG, TOP
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.measures import Landmark
from orthanc_plugin.domain.volume import Volume


def find_landmarks(
    segmentation: Segmentation, volume: Volume, searched: tuple[int, int] | None = None
) -> tuple[Landmark, ...]:
    """Find bottom and top of both lungs together, the published landmarks lung_start and lung_end.

    Parameters
    ----------
    segmentation : Segmentation
        Structures on the grid of the volume; lungs are those coded as Lung.
    volume : Volume
        The CT; z rises toward the head.
    searched : tuple of int, optional
        First and last slice that the model saw; all by default.

    Returns
    -------
    tuple of Landmark
        From the bottom up; only levels inside what was searched. Empty if there are no lungs.

    Source
    ------
    Landmarks of the published CT annotations (Krishnaswamy et al., Scientific Data 2024).
    """
    lungs = [segment for segment in segmentation.segments if segment.type.value == LUNG.value]
    if not lungs:
        return ()
    levels = np.flatnonzero(np.any([segmentation.mask(lung).any(axis=(1, 2)) for lung in lungs], axis=0))
    if not levels.size:
        return ()
    ends = (("lung bottom", BOTTOM, int(levels[0])), ("lung top", TOP, int(levels[-1])))
    outermost = searched or (0, len(volume.voxels_hu) - 1)
    return tuple(
        Landmark(name, LUNG, modifier, index, _z_mm(volume, index))
        for name, modifier, index in ends
        if index not in outermost
    )


def _z_mm(volume: Volume, index: int) -> float:
    return float(volume.affine[2] @ (0, 0, index, 1))
