"""Turn a volume's array to the axes and directions that a network was trained on, as its card states them.

Stored axes are matched to the nearest patient axes, then permuted and reversed without interpolation. So the network
sees a patient the same way for head-first, feet-first, sagittal and slightly oblique storage. Rows halfway between two
patient axes in the axial plane take the axis that they are stored along, as in the other engines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, ModelError, Refusal
from orthanc_plugin.inference.grid import Turn, axial_axes

_LPS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Patient axis (x, y, z) and sign of each direction letter. Source: DICOM PS3.3 C.7.6.2.1.1."""

_CLEARLY_NEARER = 0.02


def network_turn(volume: Volume, axes: tuple[str, str, str]) -> Turn:
    """Find the turn from a volume's array to the axes of a model card.

    Parameters
    ----------
    volume : Volume
        The CT.
    axes : tuple of str
        `ModelCard.axes`, for example `("z:S", "y:P", "x:L")`: the letter after the colon is the patient direction (S,
        I, A, P, L or R) toward which an index grows.

    Returns
    -------
    Turn
        `forward` gives the network's order (before `transpose_forward`), `backward` the volume's own.

    Raises
    ------
    ModelError
        If `axes` do not name the three patient axes.
    InputError
        NOT_AXIAL if the slices are so oblique (about 45 degrees) that a nearest patient axis is not clear.
    """
    wanted = [_LPS.get(axis.rpartition(":")[2]) for axis in axes]
    named = [direction for direction in wanted if direction is not None]
    if sorted(axis for axis, _ in named) != [0, 1, 2]:
        raise ModelError(
            f"axes {', '.join(axes)} of the model card do not name the three patient axes; convert the model again"
        )
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    towards = directions[:, ::-1]  # rows: patient x, y, z; columns: array axes z, y, x
    nearest = _nearest_axes(np.abs(towards))
    (a, b, c), (p, q, r) = zip(
        *((nearest[axis], bool(towards[axis, nearest[axis]] * sense < 0)) for axis, sense in named), strict=True
    )
    return Turn((a, b, c), (p, q, r))


def _nearest_axes(nearness: NDArray[np.floating]) -> tuple[int, ...]:
    """Give the array axis of each patient axis x, y, z."""
    nearest = nearness.argmax(axis=1)
    _, second, first = np.sort(nearness, axis=1).T
    if sorted(nearest) == [0, 1, 2] and (first - second).min() >= _CLEARLY_NEARER:
        return tuple(int(axis) for axis in nearest)
    axial = axial_axes(nearness[::-1])
    if axial is None:
        raise InputError(Refusal.NOT_AXIAL, "the slices lie too oblique to tell the patient's axes apart")
    return axial[::-1]
