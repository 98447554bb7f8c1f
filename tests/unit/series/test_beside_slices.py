"""What lies in a CT series beside its slices is left out and counted; what may be a slice refuses the series."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    PositronEmissionTomographyImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.rules.decide import explain
from orthanc_plugin.rules.tags import SeriesTags, series_tags
from orthanc_plugin.series.read import read_series

Series = list[FileDataset]
COUNT = 24
PHANTOM = make_phantom((COUNT, 16, 20), (3.0, 8.0, 8.0))


def slices() -> Series:
    return encode_phantom(PHANTOM)


def tags_of(series: Series) -> SeriesTags:
    return series_tags(series, archive="a", today=date(2026, 1, 1))


def other(sop_class: str, number: int = 1, *, place: bool = False, **values: object) -> FileDataset:
    """Make an object of the same series; without `place` it has neither position nor orientation."""
    ds = deepcopy(slices()[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.44{number}"
    if not place:
        del ds.ImagePositionPatient, ds.ImageOrientationPatient
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def colour(ds: FileDataset) -> FileDataset:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)
    return ds


def outside(number: int, step: float) -> FileDataset:
    """Make a secondary capture so many steps from the slice of that number, in its plane."""
    source = slices()[number]
    x, y, z = map(float, source.ImagePositionPatient)
    return other(
        SecondaryCaptureImageStorage,
        place=True,
        ImagePositionPatient=[x, y, z + step * 3.0],
        ImageOrientationPatient=source.ImageOrientationPatient,
    )


PICTURE, OBJECT = "1 picture(s) without CT values left out", "1 object(s) other than CT images left out"
ASIDE: dict[str, tuple[Callable[[], FileDataset], str]] = {
    "secondary capture": (lambda: other(SecondaryCaptureImageStorage), PICTURE),
    "secondary capture of modality OT": (lambda: other(SecondaryCaptureImageStorage, Modality="OT"), PICTURE),
    "colour secondary capture": (lambda: colour(other(SecondaryCaptureImageStorage)), PICTURE),
    "frames of a secondary capture": (
        lambda: colour(other(MultiFrameTrueColorSecondaryCaptureImageStorage, NumberOfFrames=1)),
        PICTURE,
    ),
    "capture in the plane of a slice": (lambda: outside(7, 0), PICTURE),
    "dose sheet": (lambda: other(CTImageStorage, ImageType=["DERIVED", "SECONDARY", "OTHER", "DOSE_INFO"]), PICTURE),
    "saved screen with a place": (
        lambda: other(CTImageStorage, place=True, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        PICTURE,
    ),
    "colour CT": (lambda: colour(other(CTImageStorage)), PICTURE),
    "colour CT of another size": (lambda: colour(other(CTImageStorage, Rows=5, Columns=7)), PICTURE),
    "report": (lambda: other(BasicTextSRStorage, Modality="SR"), OBJECT),
    "document": (lambda: other(EncapsulatedPDFStorage, Modality="OT"), OBJECT),
    "segmentation": (lambda: other(SegmentationStorage, Modality="SEG"), OBJECT),
    "raw data": (lambda: other("1.2.840.10008.5.1.4.1.1.66"), OBJECT),
    "private object": (lambda: other("1.3.12.2.1107.5.9.1"), OBJECT),
}


@pytest.mark.parametrize("name", ASIDE)
def test_what_is_no_slice_is_left_out_and_counted(name: str) -> None:
    make, note = ASIDE[name]
    found = read_series([make(), *slices()])
    np.testing.assert_array_equal(found.volume.voxels_hu, PHANTOM.volume.voxels_hu)
    assert found.notes == (note,)
    assert str(make().SOPInstanceUID) in found.identity.sop_instance_uids
    assert len(found.headers) == COUNT


@pytest.mark.parametrize("name", ASIDE)
def test_rules_judge_the_slices_without_it(name: str) -> None:
    series = [ASIDE[name][0](), *slices()]
    (verdict,) = explain([DEFAULT_RULE], tags_of(series))
    assert verdict.reasons == ()
    assert (tags_of(series).slices, tags_of(series).localizers) == (COUNT, 0)


def test_every_kind_has_its_count() -> None:
    scout = other(CTImageStorage, 9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    captures = [other(SecondaryCaptureImageStorage, number) for number in (1, 2, 2)]
    series = [scout, *captures, other(EncapsulatedPDFStorage, 3), *slices()]
    assert read_series(series).notes == (
        "1 localizer(s) left out", "2 picture(s) without CT values left out", OBJECT
    )  # fmt: skip


MIXED: dict[str, tuple[Callable[[], Series], Refusal]] = {
    "PET with a place": (
        lambda: [*slices(), other(PositronEmissionTomographyImageStorage, place=True, Modality="PT")],
        Refusal.NOT_CT,
    ),
    "MR with a place": (lambda: [*slices(), other(MRImageStorage, place=True, Modality="MR")], Refusal.NOT_CT),
    "dose with a place": (lambda: [*slices(), other(RTDoseStorage, place=True, Modality="RTDOSE")], Refusal.NOT_CT),
    "no SOP class": (lambda: [*slices(), other("")], Refusal.NOT_CT),
    "first slice is a picture": (lambda: [*slices()[1:], outside(0, 0)], Refusal.NOT_HU),
    "last slice is a picture": (lambda: [*slices()[:-1], outside(COUNT - 1, 0)], Refusal.NOT_HU),
    "middle slice is a picture": (
        lambda: [*slices()[:9], outside(9, 0), *slices()[10:]],
        Refusal.MISSING_SLICE,
    ),
    "pictures only": (lambda: [other(SecondaryCaptureImageStorage, number) for number in range(30)], Refusal.NOT_CT),
    "picture of another patient": (
        lambda: [*slices(), other(SecondaryCaptureImageStorage, PatientID="another")],
        Refusal.MIXED_IDENTITY,
    ),
    "frames of 16 bits": (
        lambda: [*slices(), other(MultiFrameGrayscaleWordSecondaryCaptureImageStorage, NumberOfFrames=4)],
        Refusal.MULTI_FRAME,
    ),
    "slice without its place": (lambda: [*slices(), other(CTImageStorage)], Refusal.MISSING_GEOMETRY),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_may_be_a_slice_refuses_the_series(name: str) -> None:
    make, reason = MIXED[name]
    with pytest.raises(InputError) as caught:
        read_series(make())
    assert caught.value.reason is reason, str(caught.value)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
def test_values_that_are_no_numbers_beside_the_slices_end_nothing(keyword: str) -> None:
    for sop_class, reason in ((SecondaryCaptureImageStorage, None), (MRImageStorage, Refusal.NOT_CT)):
        ds = other(sop_class, place=True)
        ds._dict[Tag(keyword)] = RawDataElement(Tag(keyword), "DS", 4, b"abc ", 0, False, True)
        if reason is None:
            assert read_series([*slices(), ds]).notes == (PICTURE,)
        else:
            with pytest.raises(InputError) as caught:
                read_series([*slices(), ds])
            assert caught.value.reason is reason


def test_pictures_only_are_refused_by_the_rules_as_no_ct() -> None:
    (verdict,) = explain([DEFAULT_RULE], tags_of([other(SecondaryCaptureImageStorage, n) for n in range(30)]))
    assert "SOPClass" in " ".join(verdict.reasons)


def test_a_folder_lists_a_series_as_ct_whose_first_file_is_no_ct(tmp_path: Path) -> None:
    for number, ds in enumerate([other(EncapsulatedPDFStorage, Modality="OT"), *slices()[:3]]):
        ds.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    (series,) = FolderArchive(tmp_path, tmp_path / "out").series
    assert series.modality == "CT"


# MONOCHROME1


def inverted(series: Series, some: slice, change: Callable[[np.ndarray], np.ndarray] | None = None) -> Series:
    for ds in series[some]:
        ds.PhotometricInterpretation = "MONOCHROME1"
        if change is not None:
            stored = np.frombuffer(ds.PixelData, "<i2")
            hu = stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
            values = (change(hu) - float(ds.RescaleIntercept)) / float(ds.RescaleSlope)
            ds.PixelData = np.rint(values).astype("<i2").tobytes()
    return series


@pytest.mark.parametrize("some", [slice(None), slice(4, 9), slice(9, 10)], ids=["all", "five", "one"])
def test_slices_that_are_shown_inverted_keep_their_values_and_are_noted(some: slice) -> None:
    found = read_series(inverted(slices(), some))
    np.testing.assert_array_equal(found.volume.voxels_hu, PHANTOM.volume.voxels_hu)
    count = len(range(COUNT)[some])
    assert found.notes == (
        f"{count} slice(s) are MONOCHROME1, which viewers show inverted; their values are HU as they are",
    )


@pytest.mark.parametrize("some", [slice(None), slice(4, 9), slice(9, 10)], ids=["all", "five", "one"])
@pytest.mark.parametrize("change", [lambda v: 3071 - v, lambda v: -v, lambda v: 1000 - v, lambda v: 100 - v])
def test_slices_whose_values_are_inverted_are_refused(some: slice, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(InputError) as caught:
        read_series(inverted(slices(), some, change))
    assert caught.value.reason is Refusal.IMPLAUSIBLE_HU
