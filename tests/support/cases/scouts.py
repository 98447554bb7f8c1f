"""The scouts that a scanner puts into a series: wide pictures from the front and from the side."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

_FRONT, _SIDE = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def two_scouts(slices: Sequence[Dataset]) -> list[Dataset]:
    """Make two scouts of a series: each shows the greatest density along its way through the patient."""
    ordered = sorted(slices, key=lambda ds: -float(ds.ImagePositionPatient[2]))
    voxels = np.stack([np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns) for ds in ordered])
    return [
        _scout(ordered[0], voxels.max(axis=1), _FRONT, 1),
        _scout(ordered[0], voxels.max(axis=2), _SIDE, 2),
    ]


def _scout(top: Dataset, plane: np.ndarray, orientation: list[int], number: int) -> Dataset:
    ds = deepcopy(top)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[top.SOPInstanceUID, str(number)]
    )
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.ImageOrientationPatient = orientation
    ds.InstanceNumber = 9000 + number
    ds.Rows, ds.Columns = plane.shape
    ds.PixelData = np.ascontiguousarray(plane).tobytes()
    return ds
