"""RT Structure Sets by a reader that is not ours: plastimatch fills the contours, and the masks of the SEG come back.

plastimatch takes the planes as axial; oblique series are tested by arithmetic in tests/unit/test_results_rtstruct.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.ct import CtSeries, Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.masks import Mask, Segmentation
from orthanc_plugin.results import seg
from orthanc_plugin.results.rtstruct import encode_rtstruct
from tests.conformance.cases import lowest, real
from tests.conformance.readers import output_of, tool
from tests.results_case import (
    AIRWAY,
    BODY,
    BONE,
    CARD,
    CREATED,
    LUNG_LEFT,
    LUNG_RIGHT,
    ellipsoids,
    encode,
    small_series,
)

DICE = 0.99
FROM_ML = 1.0
NAMES = {
    BODY.key: "Body",
    LUNG_LEFT.key: "Lung_L",
    LUNG_RIGHT.key: "Lung_R",
    AIRWAY.key: AIRWAY.label,
    BONE.key: "Bone",
}
CHEST = find_model("chest_structures", None)


def structure_set(series: CtSeries, found: Segmentation, card: ModelCard = CARD) -> Dataset:
    """The RT Structure Set of a stored SEG."""
    stored = encode(series, found, card=card)
    kept = seg.decode_seg(stored, series, card)
    return encode_rtstruct(series, stored, kept, card, sop_instance_uid="2.25.1006", provider="CPU", created=CREATED)


def plastimatch_masks(rtstruct: Dataset, volume: Volume, folder: Path) -> dict[str, Mask]:
    """Mask (z, y, x) of each ROI by its name, as plastimatch fills its contours on the grid of the volume."""
    rtstruct.save_as(folder / "rtstruct.dcm", enforce_file_format=True)
    _save_grid(volume, folder / "grid.nrrd")
    status, text = output_of(
        tool("plastimatch"), "convert", "--input", str(folder / "rtstruct.dcm"), "--fixed", str(folder / "grid.nrrd"),
        "--output-prefix", str(folder / "masks"), "--prefix-format", "nrrd",
    )  # fmt: skip
    assert status == 0, text
    return {path.stem: sitk.GetArrayFromImage(sitk.ReadImage(path)) > 0 for path in (folder / "masks").iterdir()}


def _save_grid(volume: Volume, path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros(volume.voxels_hu.shape, np.int16))
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetDirection((volume.affine[:3, :3] / np.array(volume.spacing_mm[::-1])).ravel().tolist())
    sitk.WriteImage(image, path)


def dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def agreement(series: CtSeries, found: Segmentation, read: Mapping[str, Mask]) -> dict[str, float]:
    """Dice of every structure larger than 1 mL, as found and not as stored: the body holds what lies in it."""
    assert set(read) == {NAMES[segment.key] for segment in found.segments}
    masks = {segment.key: found.mask(segment) for segment in found.segments}
    return {
        key: dice(read[NAMES[key]], mask)
        for key, mask in masks.items()
        if mask.sum() * series.volume.voxel_ml > FROM_ML
    }


def with_holes() -> tuple[CtSeries, Segmentation]:
    """Ellipsoids; a lung with two holes, one of them with an island, and pixels that touch at a corner."""
    series = small_series(64, 64)
    found = ellipsoids(series)
    labels = found.labels
    z, y, x = (int(axis.mean()) for axis in np.nonzero(labels == LUNG_LEFT.number))
    labels[z - 1 : z + 2, y - 8 : y - 1, x - 3 : x + 4] = BODY.number
    labels[z, y - 6 : y - 3, x - 1 : x + 2] = LUNG_LEFT.number
    labels[z, y + 2 : y + 4, x : x + 2] = BODY.number
    labels[z, 1, 1], labels[z, 2, 2], labels[z, 60, 3:6] = LUNG_LEFT.number, LUNG_LEFT.number, LUNG_RIGHT.number
    return series, found


def engine_of(series: CtSeries) -> tuple[CtSeries, Segmentation]:
    """A series with what the built-in model finds in it."""
    return series, open_engine(CHEST, Provider.CPU).segment(series.volume)


CASES: dict[str, tuple[ModelCard, Callable[[], tuple[CtSeries, Segmentation]]]] = {
    "ellipsoids with holes and islands": (CARD, with_holes),
    "cip_ct64": (CHEST, lambda: engine_of(real("cip_ct64/dicom"))),
    "lidc_0314_chest, 12 slices": (CHEST, lambda: engine_of(lowest(real("lidc_0314_chest/dicom"), 12))),
}


@pytest.mark.real_ct
@pytest.mark.parametrize("case", CASES)
def test_filled_contours_are_the_masks(case: str, tmp_path: Path) -> None:
    card, make = CASES[case]
    series, found = make()
    rtstruct = structure_set(series, found, card)
    measured = agreement(series, found, plastimatch_masks(rtstruct, series.volume, tmp_path))
    assert len(measured) == len(found.segments) > 1
    assert min(measured.values()) >= DICE, measured


def test_holes_are_holes_and_islands_are_islands(tmp_path: Path) -> None:
    series, found = with_holes()
    rtstruct = structure_set(series, found)
    read = plastimatch_masks(rtstruct, series.volume, tmp_path)
    for label in (LUNG_LEFT, LUNG_RIGHT):
        np.testing.assert_array_equal(read[NAMES[label.key]], found.labels == label.number)
