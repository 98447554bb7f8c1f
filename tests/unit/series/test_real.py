"""Real series and what becomes of each: accepted with these notes, or refused for this reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.read import read_series
from tests.support.cases.realct import real_ct

pytestmark = pytest.mark.real_ct

REFUSED = {
    "broken_geometry/gantrytilting/001": (Refusal.IMPLAUSIBLE_HU, "HU"),
    "broken_geometry/sliceincrement/001": (Refusal.MISSING_SLICE, "1 slice"),
    "broken_geometry/sliceincrement/002": (Refusal.MISSING_SLICE, "1 slice"),
    "broken_geometry/notavolume/001": (Refusal.DUPLICATE_POSITIONS, "4 different images"),
    "broken_geometry/sliceorientation/001": (Refusal.NOT_CT, "Modality"),
    "broken_geometry/slicecount/001": (Refusal.NOT_CT, "Modality"),
    "enhanced_4d_ct": (Refusal.NOT_HU, "RescaleType"),
    "enhanced_4d_ct/dicom_4d_enhanced": (Refusal.MULTI_FRAME, "single-frame"),
    "enhanced_4d_ct/dicom_4d": (Refusal.NOT_CT, "SOPClassUID"),
    "fda_phantom_j2k/dicom": (Refusal.UNREADABLE, "JPEG 2000"),
    "ts_example_ct/example_ct_dicom": (Refusal.NOT_CT, "SOPClassUID"),
}


def instances_in(folder: Path) -> Iterator[Dataset]:
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != "DIRFILE"):
        try:
            yield dcmread(path)
        except InvalidDicomError:
            continue


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    reason, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        read_series(instances_in(real_ct(name)))
    assert caught.value.reason is reason


def test_cip_ct64_is_accepted_as_it_is() -> None:
    series = read_series(instances_in(real_ct("cip_ct64/dicom")))
    assert series.volume.voxels_hu.shape == (79, 64, 64)
    assert series.volume.spacing_mm == pytest.approx((3.98734, 4.171872, 4.171872), abs=1e-4)
    assert series.notes == ()


def test_volume_agrees_with_an_independent_reader() -> None:
    folder = real_ct("cip_ct64/dicom")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    volume = read_series(instances_in(folder)).volume
    np.testing.assert_array_equal(volume.voxels_hu, sitk.GetArrayFromImage(image))
    for index in ((0, 0, 0), (63, 0, 40), (10, 50, 78)):
        place = (volume.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(place, image.TransformIndexToPhysicalPoint(index), atol=0.01)


def test_ts_example_is_accepted_once_it_has_its_uids() -> None:
    def repaired() -> Iterator[Dataset]:
        for number, ds in enumerate(instances_in(real_ct("ts_example_ct/example_ct_dicom"))):
            ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"2.25.1{number}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.2"
            yield ds

    series = read_series(repaired())
    assert series.volume.voxels_hu.shape == (20, 512, 512)
    assert series.volume.spacing_mm == (2.0, 0.9765625, 0.9765625)
    assert series.volume.affine[2, 3] == pytest.approx(min(float(h.ImagePositionPatient[2]) for h in series.headers))


def test_single_slices_of_an_enhanced_conversion_source_are_accepted() -> None:
    folder = real_ct("enhanced_4d_ct/dicom_enhanced")
    series = read_series(ds for ds in instances_in(folder) if "NumberOfFrames" not in ds)
    assert series.volume.voxels_hu.shape == (7, 512, 512)
    assert series.volume.spacing_mm[0] == 4.0


@pytest.mark.parametrize(
    ("name", "shape", "marks"),
    [
        ("philips_tilt", (54, 599, 512), ["gantry tilt"]),
        ("ge_irregular_tilt", (135, 611, 512), ["gantry tilt", "the distance"]),
    ],
)
def test_tilted_heads_are_set_upright(name: str, shape: tuple[int, int, int], marks: list[str]) -> None:
    series = read_series(instances_in(real_ct(f"gantry_tilt/{name}")))
    assert series.volume.voxels_hu.shape == shape
    assert [mark[: len(said)] for mark, said in zip(series.marks, marks, strict=True)] == marks
    assert "18.5 degrees" in series.marks[0]


def test_lidc_with_a_frame_of_reference_a_slice_is_one_volume() -> None:
    series = read_series(instances_in(real_ct("lidc_0314_chest/dicom")))
    assert series.volume.voxels_hu.shape == (275, 512, 512)
    assert series.volume.spacing_mm == pytest.approx((1.0, 0.78125, 0.78125))
    assert len(series.identity.frame_of_reference_uids) == 275
    assert series.frame_of_reference_uid.startswith("2.25.")
    assert [note.split()[0] for note in series.notes] == ["every"]
    heights = np.array([float(ds.ImagePositionPatient[2]) for ds in series.headers])
    assert (np.diff(heights) > 0).all()
