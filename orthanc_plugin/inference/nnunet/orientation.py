"""How a volume's array becomes the array a network was trained on: its card names the axes and their directions.

Stored axes are matched to the nearest patient axes, then permuted and reversed; nothing is interpolated. So head-first,
feet-first, sagittal or slightly oblique storage of one patient all reach the network the same way round.
"""

from __future__ import annotations

import numpy as np

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, ModelError, Refusal
from orthanc_plugin.inference.grid import Turn

_LPS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Patient axis (x, y, z) and sense of each direction letter. Source: DICOM PS3.3 C.7.6.2.1.1."""

_CLEARLY_NEARER = 0.02


def network_turn(volume: Volume, axes: tuple[str, str, str]) -> Turn:
    """Find the turn from a volume's array to the axes of a model card.

    Parameters
    ----------
    volume : Volume
    axes : tuple of str
        As `ModelCard.axes`: the letter after the colon is the patient direction toward which an index grows, one of
        S I A P L R; for example `("z:S", "y:P", "x:L")`.

    Returns
    -------
    Turn
        `forward` gives the network's order (before `transpose_forward`), `backward` the volume's own.

    Raises
    ------
    ModelError
        If `axes` do not name three patient axes.
    InputError
        NOT_AXIAL where the volume lies so oblique (about 45 degrees) that its axes have no nearest patient axis each.
    """
    wanted = [_LPS.get(axis.rpartition(":")[2]) for axis in axes]
    named = [direction for direction in wanted if direction is not None]
    if sorted(axis for axis, _ in named) != [0, 1, 2]:
        raise ModelError(
            f"axes {', '.join(axes)} of the model card name no three patient axes; convert the model again"
        )
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    towards = directions[:, ::-1]  # rows: patient x, y, z; columns: array axes z, y, x
    nearness = np.abs(towards)
    nearest = nearness.argmax(axis=1)
    _, second, first = np.sort(nearness, axis=1).T
    if sorted(nearest) != [0, 1, 2] or (first - second).min() < _CLEARLY_NEARER:
        raise InputError(Refusal.NOT_AXIAL, "the slices lie too oblique to tell the patient's axes apart")
    (a, b, c), (p, q, r) = zip(
        *((int(nearest[axis]), bool(towards[axis, nearest[axis]] * sense < 0)) for axis, sense in named), strict=True
    )
    return Turn((a, b, c), (p, q, r))
