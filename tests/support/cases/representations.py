"""One body, stored in many ways: axes, mirrors, a turn, the order of files, frames in one file or two."""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.phantoms.multiframe import enhanced_ct


class Split(StrEnum):
    """How the slices are spread over instances."""

    SLICES = "an instance for each slice"
    FRAMES = "all slices as frames of one instance"
    HALVES = "frames of two instances"


@dataclass(frozen=True)
class Representation:
    """How a volume is stored.

    axes: which array axes (z, y, x) become slices, rows and columns. mirrored: which of these run backwards.
    turn: degrees about x, y and z by which the patient lies turned; what is stored stays the same.
    """

    axes: tuple[int, ...]
    mirrored: tuple[bool, ...]
    turn: tuple[float, float, float]
    order: int
    split: Split


def representations(most_degrees: float = 180.0, *, axial: bool = False) -> st.SearchStrategy[Representation]:
    """Draw a representation; one that rules for axial series take where `axial` says so."""
    angle = st.floats(-most_degrees, most_degrees)
    return st.builds(
        Representation,
        axes=st.sampled_from([axes for axes in permutations(range(3)) if axes[0] == 0 or not axial]),
        mirrored=st.tuples(st.booleans(), st.booleans(), st.booleans()),
        turn=st.tuples(angle, angle, angle),
        order=st.integers(0, 2**16),
        split=st.sampled_from(Split),
    )


def turned(affine: NDArray[np.float64], degrees: Sequence[float]) -> NDArray[np.float64]:
    """Turn the patient, and all that lies in it, about the origin of patient space."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return np.asarray(turn @ affine)


def stored(volume: Volume, how: Representation) -> list[Dataset]:
    """Give the instances of a volume of whole HU."""
    affine = turned(volume.affine, how.turn)
    directions, origin = affine[:3, :3][:, ::-1].T, affine[:3, 3].copy()  # by array axis
    voxels = volume.voxels_hu.transpose(how.axes)
    steps = [directions[axis].copy() for axis in how.axes]
    for axis, backwards in enumerate(how.mirrored):
        if backwards:
            origin += steps[axis] * (voxels.shape[axis] - 1)
            steps[axis] *= -1
            voxels = np.flip(voxels, axis)
    template = encode_phantom(make_phantom((4, 8, 8)))[0]
    slices = [_slice(template, plane, origin + k * steps[0], steps, k) for k, plane in enumerate(voxels)]
    random.Random(how.order).shuffle(slices)
    if how.split is Split.SLICES:
        return slices
    half = len(slices) if how.split is Split.FRAMES else len(slices) // 2
    return [enhanced_ct(part) for part in (slices[:half], slices[half:]) if part]


def _slice(
    template: Dataset,
    plane: NDArray[np.float32],
    position: NDArray[np.float64],
    steps: list[NDArray[np.float64]],
    k: int,
) -> Dataset:
    ds = deepcopy(template)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{template.SeriesInstanceUID[:40]}.{k + 1}"
    ds.InstanceNumber = k + 1
    ds.Rows, ds.Columns = plane.shape
    lengths = [float(np.linalg.norm(step)) for step in steps]
    ds.PixelSpacing, ds.SliceThickness = [_decimal(lengths[1]), _decimal(lengths[2])], _decimal(lengths[0])
    ds.ImageOrientationPatient = [_decimal(v) for v in (*steps[2] / lengths[2], *steps[1] / lengths[1])]
    ds.ImagePositionPatient = [_decimal(v) for v in position]
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = np.ascontiguousarray(plane).astype("<i2").tobytes()
    return ds


def _decimal(value: float) -> str:
    """Write a number in the 16 characters of a DS."""
    return f"{value:.8f}"


def sampled(
    values: NDArray[np.generic], affine: NDArray[np.float64], points_mm: NDArray[np.float64]
) -> NDArray[np.generic]:
    """Give the value at each point (n, 3) of patient space (LPS), of the nearest voxel; 0 outside."""
    inverse = np.linalg.inv(affine)
    index = np.rint((points_mm @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1]).astype(np.intp)
    inside = ((index >= 0) & (index < values.shape)).all(axis=1)
    found = np.zeros(len(index), values.dtype)
    found[inside] = values[tuple(index[inside].T)]
    return found


def places(volume: Volume, degrees: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Give the place of each voxel of a volume in a patient who lies turned, (n, 3), LPS in mm."""
    index = np.indices(volume.voxels_hu.shape).reshape(3, -1).T[:, ::-1]
    affine = turned(volume.affine, degrees)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])
