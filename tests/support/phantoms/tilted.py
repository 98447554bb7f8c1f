"""A phantom scanned with a tilted gantry: planes turned about the left-right axis, while the table moves along z."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from pydicom.dataset import FileDataset
from scipy import ndimage

from orthanc_plugin.domain.volume import Affine, Voxels
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom

_AIR_HU, _INTERCEPT = -1000, -1024


def tilted_phantom(phantom: Phantom, degrees: float) -> list[FileDataset]:
    """Encode a phantom as a scanner with a tilted gantry sees it; as many slices as cover all of it."""
    voxels, (step_mm, row_mm, column_mm) = phantom.volume.voxels_hu, phantom.volume.spacing_mm
    angle = np.radians(degrees)
    down = np.array([0.0, np.cos(angle), -np.sin(angle)])
    depth_mm = voxels.shape[1] * row_mm
    more = int(np.ceil(depth_mm * np.sin(abs(angle)) / step_mm))
    first, *_ = encode_phantom(phantom)
    corner = phantom.volume.affine[:3, 3]
    made = []
    for number in range(len(voxels) + more):
        position = corner + np.array([0.0, 0.0, step_mm * number])
        ds = deepcopy(first)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.55{number:04d}"
        ds.ImagePositionPatient = [f"{value:.4f}" for value in position]
        ds.ImageOrientationPatient = [1, 0, 0, *(f"{value:.9f}" for value in down)]
        ds.GantryDetectorTilt = f"{degrees:g}"
        steps = np.column_stack([[column_mm, 0, 0], down * row_mm])
        plane = _sampled(voxels, phantom.volume.affine, position, steps)
        ds.PixelData = (np.rint(plane) - _INTERCEPT).astype("<i2").tobytes()
        made.append(ds)
    return made


def _sampled(voxels: Voxels, affine: Affine, position: np.ndarray, steps: np.ndarray) -> Voxels:
    """Sample one plane; position (3,) mm, steps (3, 2) mm along columns and rows."""
    rows, columns = voxels.shape[1:]
    y, x = np.mgrid[:rows, :columns]
    points = position[:, None] + steps @ np.stack([x.ravel(), y.ravel()])
    indices = np.linalg.solve(affine, np.vstack([points, np.ones(points.shape[1])]))[2::-1]
    plane = ndimage.map_coordinates(voxels, indices, order=1, cval=_AIR_HU)
    return np.asarray(plane.reshape(rows, columns), np.float32)
