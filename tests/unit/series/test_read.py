"""What the series reader accepts, puts right and refuses: the table of docs/geometry.md on hand-made series."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import UID, EnhancedCTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from orthanc_plugin import identity
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import PatientPosition, StorageOrder, encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series

Series = list[FileDataset]
COUNT, SPACING_MM = 12, 3.0


@cache
def small_phantom() -> Phantom:
    return make_phantom((COUNT, 16, 20), (SPACING_MM, 2.0, 1.5))


def small_series(**options: object) -> Series:
    return encode_phantom(small_phantom(), **options)  # type: ignore[arg-type]


def moved(ds: FileDataset, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
    ds.ImagePositionPatient = [
        f"{p + d:.6f}" for p, d in zip(map(float, ds.ImagePositionPatient), (x, y, z), strict=True)
    ]


def again(ds: FileDataset, number: int) -> FileDataset:
    """A copy of an instance under a UID of its own."""
    other = deepcopy(ds)
    other.SOPInstanceUID = UID(f"2.25.{number}")
    return other


def each(change: Callable[[FileDataset], None]) -> Callable[[Series], Series]:
    def mutate(series: Series) -> Series:
        for ds in series:
            change(ds)
        return series

    return mutate


def one(change: Callable[[FileDataset], None], index: int = 5) -> Callable[[Series], Series]:
    def mutate(series: Series) -> Series:
        change(series[index])
        return series

    return mutate


def setting(**values: object) -> Callable[[FileDataset], None]:
    def change(ds: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return change


def without(keyword: str) -> Callable[[FileDataset], None]:
    return lambda ds: delattr(ds, keyword)


def localizer(series: Series) -> FileDataset:
    ds = again(series[0], 77)
    ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return ds


def assert_same_volume(series: CtSeries, phantom: Phantom) -> None:
    np.testing.assert_array_equal(series.volume.voxels_hu, phantom.volume.voxels_hu)
    np.testing.assert_allclose(series.volume.affine, phantom.volume.affine, atol=1e-4)
    np.testing.assert_allclose(series.volume.spacing_mm, phantom.volume.spacing_mm, atol=1e-6)


# accepted


def test_phantom_comes_back_as_it_was_written() -> None:
    series = read_series(small_series())
    assert_same_volume(series, small_phantom())
    assert series.notes == ()


@pytest.mark.parametrize("order", StorageOrder)
@pytest.mark.parametrize("position", [PatientPosition.HFS, PatientPosition.FFS])
def test_order_of_arrival_and_feet_first_change_nothing(order: StorageOrder, position: PatientPosition) -> None:
    series = read_series(small_series(order=order, position=position))
    assert_same_volume(series, small_phantom())
    assert series.identity == read_series(small_series(position=position)).identity


def test_prone_keeps_stored_rows_and_says_so_in_the_affine() -> None:
    series = read_series(small_series(position=PatientPosition.HFP))
    np.testing.assert_array_equal(series.volume.voxels_hu, small_phantom().volume.voxels_hu[:, ::-1, ::-1])
    np.testing.assert_allclose(np.diag(series.volume.affine), [-1.5, -2.0, 3.0, 1.0], atol=1e-6)
    last = series.volume.affine @ [19, 15, 0, 1]
    np.testing.assert_allclose(last, small_phantom().volume.affine @ [0, 0, 0, 1], atol=1e-4)


def test_headers_follow_the_slices_and_carry_no_pixels() -> None:
    series = read_series(small_series(order=StorageOrder.SHUFFLED))
    heights = [float(ds.ImagePositionPatient[2]) for ds in series.headers]
    assert heights == sorted(heights)
    assert all("PixelData" not in ds for ds in series.headers)
    assert all(ds.PatientName == "Phantom^Chest" for ds in series.headers)


def test_reading_leaves_the_instances_unchanged_and_takes_an_iterator() -> None:
    instances = small_series()
    read_series(iter(instances))
    assert all("PixelData" in ds for ds in instances)


def test_first_bad_instance_ends_the_reading() -> None:
    asked = []

    def feed() -> Iterator[FileDataset]:
        for number, ds in enumerate(small_series()):
            asked.append(number)
            ds.Modality = "MR" if number == 2 else "CT"
            yield ds

    with pytest.raises(InputError):
        read_series(feed())
    assert asked == [0, 1, 2]


def test_position_noise_is_averaged_away() -> None:
    instances = small_series()
    for number, ds in enumerate(instances):
        moved(ds, x=0.02 * (-1) ** number, z=0.05 * (-1) ** number)
    series = read_series(instances)
    assert series.volume.spacing_mm[0] == pytest.approx(SPACING_MM, abs=0.01)
    np.testing.assert_allclose(series.volume.affine, small_phantom().volume.affine, atol=0.03)


def test_orientation_noise_is_averaged_away() -> None:
    instances = small_series()
    for number, ds in enumerate(instances):
        ds.ImageOrientationPatient = [1, 1e-4 * (-1) ** number, 0, 0, 0.99999, 0]
    axes = read_series(instances).volume.affine[:3, :3] / [1.5, 2.0, SPACING_MM]
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)


def test_wrong_thickness_location_and_numbers_do_not_matter() -> None:
    instances = small_series()
    for number, ds in enumerate(instances):
        ds.SliceThickness, ds.SliceLocation, ds.InstanceNumber = 7, number % 3, 1
    assert_same_volume(read_series(instances), small_phantom())


def test_rescale_is_taken_from_each_slice() -> None:
    instances = small_series()
    for ds in instances[::2]:
        stored = np.frombuffer(ds.PixelData, "<i2") * 2
        ds.RescaleSlope, ds.PixelData = 0.5, stored.astype("<i2").tobytes()
    assert_same_volume(read_series(instances), small_phantom())


def test_identical_duplicate_is_dropped_with_a_note() -> None:
    instances = small_series()
    instances.append(again(instances[4], 5))
    series = read_series(instances)
    assert_same_volume(series, small_phantom())
    assert series.notes == ("1 duplicate slice(s) left out",)
    assert len(series.identity.sop_instance_uids) == COUNT + 1


def test_localizer_by_image_type_is_left_out_with_a_note() -> None:
    instances = small_series()
    scout = localizer(instances)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    del scout.ImagePositionPatient
    scout.Rows = 8
    series = read_series([scout, *instances])
    assert_same_volume(series, small_phantom())
    assert series.notes == ("1 localizer(s) left out",)
    assert str(scout.SOPInstanceUID) in series.identity.sop_instance_uids


def test_single_slice_across_the_others_is_left_out_with_a_note() -> None:
    instances = small_series()
    series = read_series([*instances, localizer(instances)])
    assert_same_volume(series, small_phantom())
    assert series.notes == ("1 slice(s) across the others left out as localizers",)


def test_frame_of_reference_of_each_slice_makes_one_volume_with_a_derived_frame() -> None:
    instances = small_series()
    for number, ds in enumerate(instances):
        ds.FrameOfReferenceUID = f"2.25.1{number}"
    series = read_series(instances)
    assert_same_volume(series, small_phantom())
    assert series.frame_of_reference_uid == identity.frame_of_reference_uid(series.identity)
    assert len(series.notes) == 1
    assert "FrameOfReferenceUID" in series.notes[0]


def test_padding_and_impossible_values_become_air_with_a_note() -> None:
    instances = small_series()
    for ds in instances:
        stored = np.frombuffer(ds.PixelData, "<i2").reshape(16, 20).copy()
        stored[0, 0], stored[0, 1] = -2000, 32767
        ds.PixelData, ds.PixelPaddingValue = stored.tobytes(), 32767
    series = read_series(instances)
    assert (series.volume.voxels_hu[:, 0, :2] == -1024).all()
    assert series.notes == ("padding and values below -1024 HU set to -1024 HU in 12 slice(s)",)


def test_padding_that_looks_like_tissue_is_not_believed() -> None:
    instances = small_series()
    for ds in instances:
        ds.PixelPaddingValue = 1024 + int(small_phantom().volume.voxels_hu[6, 8, 10])
    assert_same_volume(read_series(instances), small_phantom())


def test_lossy_compression_is_noted() -> None:
    instances = small_series()
    instances[3].LossyImageCompression = "01"
    assert read_series(instances).notes == ("pixels were compressed with loss before they came here",)


def test_coronal_series_rises_toward_the_back() -> None:
    instances = small_series()
    for number, ds in enumerate(instances):
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        ds.ImagePositionPatient = [0, 40 - 3 * number, 0]
    affine = read_series(instances).volume.affine
    np.testing.assert_allclose(affine[:3, 2], [0, 3, 0], atol=1e-9)
    np.testing.assert_allclose(affine[:3, 3], [0, 7, 0], atol=1e-6)


# refused


def tilted(series: Series) -> Series:
    for number, ds in enumerate(series):
        moved(ds, y=0.3 * number)
    return series


def spaced(*gaps: float) -> Callable[[Series], Series]:
    def mutate(series: Series) -> Series:
        for ds, z in zip(series, np.cumsum(gaps), strict=True):
            ds.ImagePositionPatient = [0, 0, float(z)]
        return series

    return mutate


def two_phases(series: Series) -> Series:
    second = [again(ds, 100 + number) for number, ds in enumerate(series)]
    for ds in second:
        ds.RescaleIntercept = -1000
    return series + second


def zigzag(series: Series) -> Series:
    for number, ds in enumerate(series):
        moved(ds, x=5.0 * (number % 2))
    return series


def two_frames(series: Series) -> Series:
    for number, ds in enumerate(series):
        ds.FrameOfReferenceUID = f"2.25.{number // 6}"
    return series


def half_turned(series: Series) -> Series:
    for ds in series[:6]:
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return series


def same_pixels_elsewhere(series: Series) -> Series:
    other = again(series[3], 9)
    moved(other, x=40.0)
    return [*series, other]


def instance_of_two_contents(series: Series) -> Series:
    other = deepcopy(series[3])
    other.InstanceNumber = 99
    return [*series, other]


def one_uid_two_images(series: Series) -> Series:
    other = deepcopy(series[3])
    other.PixelData = series[4].PixelData
    return [*series, other]


ABSENT, INVALID = Refusal.MISSING_GEOMETRY, Refusal.INVALID_IDENTITY
REFUSALS: dict[str, tuple[Callable[[Series], Series], Refusal, str]] = {
    "no instances": (lambda s: [], Refusal.GONE, "no instances"),
    "two slices": (lambda s: s[:2], Refusal.TOO_FEW_SLICES, "2 slice"),
    "modality MR": (each(setting(Modality="MR", SOPClassUID=MRImageStorage)), Refusal.NOT_CT, "Modality"),
    "one MR": (one(setting(Modality="MR")), Refusal.NOT_CT, "Modality"),
    "secondary capture": (each(setting(SOPClassUID=SecondaryCaptureImageStorage)), Refusal.NOT_CT, "pictures only"),
    "no SOP class": (each(setting(SOPClassUID="")), Refusal.NOT_CT, "SOPClassUID"),
    "localizers only": (each(setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), Refusal.NOT_CT, "localizers"),
    "enhanced CT": (each(setting(SOPClassUID=EnhancedCTImageStorage)), Refusal.UNREADABLE, "0 functional groups"),
    "frames in CT": (one(setting(NumberOfFrames=4)), Refusal.MULTI_FRAME, "single-frame"),
    "no pixel data": (one(without("PixelData")), Refusal.NO_PIXELS, "no pixel data"),
    "empty pixel data": (one(setting(PixelData=b"")), Refusal.NO_PIXELS, "no pixel data"),
    "short pixel data": (one(lambda ds: setattr(ds, "PixelData", ds.PixelData[:100])), Refusal.UNREADABLE, "100 bytes"),
    "no transfer syntax": (one(lambda ds: delattr(ds.file_meta, "TransferSyntaxUID")), Refusal.UNREADABLE, "unknown"),
    "not grey": (one(setting(PhotometricInterpretation="YELLOW")), Refusal.NOT_HU, "MONOCHROME2"),
    "rescale type": (one(setting(RescaleType="US")), Refusal.NOT_HU, "RescaleType"),
    "no slope": (one(without("RescaleSlope")), Refusal.NOT_HU, "RescaleSlope"),
    "slope 0": (each(setting(RescaleSlope=0)), Refusal.NOT_HU, "RescaleSlope"),
    "slope infinite": (each(setting(RescaleSlope=float("1e20"))), Refusal.NOT_HU, "RescaleSlope"),
    "intercept absurd": (each(setting(RescaleIntercept=1e7)), Refusal.NOT_HU, "RescaleIntercept"),
    "no position": (one(without("ImagePositionPatient")), ABSENT, "ImagePositionPatient"),
    "two coordinates": (one(setting(ImagePositionPatient=[1, 2])), ABSENT, "ImagePositionPatient"),
    "position absurd": (one(setting(ImagePositionPatient=[0, 0, 1e9])), ABSENT, "absurd"),
    "no orientation": (one(without("ImageOrientationPatient")), ABSENT, "ImageOrientationPatient"),
    "skew axes": (each(setting(ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0])), ABSENT, "orthogonal"),
    "axes of length 0": (each(setting(ImageOrientationPatient=[0] * 6)), ABSENT, "orthogonal"),
    "no pixel spacing": (each(without("PixelSpacing")), ABSENT, "PixelSpacing"),
    "pixel spacing 0": (each(setting(PixelSpacing=[0, 1])), ABSENT, "PixelSpacing"),
    "one without frame": (one(setting(FrameOfReferenceUID="")), ABSENT, "FrameOfReferenceUID"),
    "two frames": (two_frames, Refusal.MIXED_FRAME_OF_REFERENCE, "2 frames"),
    "half turned": (half_turned, Refusal.MIXED_ORIENTATION, "orientation"),
    "one slightly turned": (
        one(setting(ImageOrientationPatient=[1, 0, 0, 0, 0.9998, 0.02])),
        Refusal.MIXED_ORIENTATION,
        "orientation",
    ),
    "zigzag": (zigzag, Refusal.MIXED_ORIENTATION, "sideways"),
    "pixel spacing differs": (one(setting(PixelSpacing=[2.0, 1.6])), Refusal.MIXED_SPACING, "PixelSpacing"),
    "size differs": (one(setting(Rows=8, PixelData=bytes(8 * 20 * 2))), Refusal.MIXED_SIZE, "Rows"),
    "missing slice": (lambda s: s[:4] + s[5:], Refusal.MISSING_SLICE, r"1 slice\(s\) missing at a spacing of 3.000"),
    "two gaps": (lambda s: s[:4] + s[6:8] + s[9:], Refusal.MISSING_SLICE, r"3 slice\(s\) missing"),
    "spacing changes": (spaced(*[3] * 6, 5, 4, *[5] * 4), Refusal.MIXED_SPACING, "from 3.000 to 5.000"),
    "spacing doubles": (spaced(*[3] * 7, 7, *[6] * 4), Refusal.MIXED_SPACING, "from 3.000 to 7.000"),
    "spacing alternates": (spaced(*[3, 5] * 6), Refusal.MIXED_SPACING, "from 3.000 to 5.000"),
    "one slice off": (one(lambda ds: moved(ds, z=0.4)), Refusal.MIXED_SPACING, "varies"),
    "thin slices off": (spaced(*[0.5] * 5, 0.54, 0.46, *[0.5] * 5), Refusal.MIXED_SPACING, "varies"),
    "gantry tilt": (tilted, Refusal.GANTRY_TILT, "5.7 degrees"),
    "two phases": (two_phases, Refusal.DUPLICATE_POSITIONS, "2 images at each position"),
    "one more image": (lambda s: two_phases(s)[: COUNT + 1], Refusal.DUPLICATE_POSITIONS, "13 different images at 12"),
    "same image elsewhere": (same_pixels_elsewhere, Refusal.DUPLICATE_POSITIONS, "different images"),
    "two patients": (one(setting(PatientID="OTHER")), Refusal.MIXED_IDENTITY, "PatientID"),
    "two studies": (one(setting(StudyInstanceUID="2.25.8")), Refusal.MIXED_IDENTITY, "StudyInstanceUID"),
    "two series": (one(setting(SeriesInstanceUID="2.25.8")), Refusal.MIXED_IDENTITY, "SeriesInstanceUID"),
    "no series uid": (each(setting(SeriesInstanceUID="")), Refusal.MISSING_IDENTITY, "SeriesInstanceUID"),
    "no instance uid": (one(without("SOPInstanceUID")), Refusal.MISSING_IDENTITY, "SOPInstanceUID"),
    "instance of two contents": (instance_of_two_contents, Refusal.MIXED_IDENTITY, "more than once"),
    "one uid, two images": (one_uid_two_images, Refusal.MIXED_IDENTITY, "more than once"),
    "uid with a leading zero": (each(setting(SeriesInstanceUID="1.2.03")), INVALID, "SeriesInstanceUID 1.2.03"),
    "long uid": (one(setting(SOPInstanceUID="1." + "2" * 63)), INVALID, "SOPInstanceUID 1.222"),
    "no digits": (each(setting(StudyInstanceUID="1.2.SMITH")), INVALID, "StudyInstanceUID is not"),
    "frame not a uid": (each(setting(FrameOfReferenceUID="1..2")), INVALID, "FrameOfReferenceUID 1..2"),
    "long patient id": (each(setting(PatientID="9" * 65)), INVALID, "PatientID"),
    "two patient ids": (each(setting(PatientID=["A", "B"])), INVALID, "PatientID"),
    "field of 3 m": (each(setting(PixelSpacing=[200, 200])), Refusal.TOO_LARGE, "4000 mm wide"),
    "3 m long": (spaced(*[250] * COUNT), Refusal.TOO_LARGE, "3000 mm long"),
    "lying rows": (one(setting(Rows=65000)), Refusal.TOO_LARGE, "65000 x 20"),
    "long pixel data": (one(lambda ds: setattr(ds, "PixelData", ds.PixelData + bytes(40))), Refusal.UNREADABLE, "680"),
    "one column fewer": (each(setting(Columns=19)), Refusal.UNREADABLE, "16 x 19"),
    "10 of 11 bits": (each(setting(BitsStored=10, HighBit=9)), Refusal.UNREADABLE, "BitsStored"),
    "slope 1e-300": (each(setting(RescaleSlope=1e-300)), Refusal.NOT_HU, "RescaleSlope"),
    "frames without end": (one(setting(NumberOfFrames=10**9)), Refusal.MULTI_FRAME, "single-frame"),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_its_reason(case: str) -> None:
    mutate, reason, words = REFUSALS[case]
    with pytest.raises(InputError, match=words) as caught:
        read_series(mutate(small_series()))
    assert caught.value.reason is reason
    assert "Phantom" not in str(caught.value)
    assert "PHANTOM" not in str(caught.value)


@pytest.mark.parametrize("case", ["missing slice", "gantry tilt", "two phases", "two frames", "half turned"])
def test_reason_does_not_depend_on_the_order_of_arrival(case: str) -> None:
    mutate, reason, _ = REFUSALS[case]
    for seed in range(3):
        instances = mutate(small_series())
        with pytest.raises(InputError) as caught:
            read_series(instances[i] for i in np.random.default_rng(seed).permutation(len(instances)))
        assert caught.value.reason is reason


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("keyword", "reason"),
    [
        ("NumberOfFrames", Refusal.UNREADABLE),
        ("ImagePositionPatient", Refusal.MISSING_GEOMETRY),
        ("PixelSpacing", Refusal.MISSING_GEOMETRY),
        ("RescaleSlope", Refusal.NOT_HU),
        ("Rows", Refusal.MISSING_GEOMETRY),
        ("SamplesPerPixel", Refusal.UNREADABLE),
    ],
)
def test_value_that_is_no_number_is_refused(keyword: str, reason: Refusal) -> None:
    instances = small_series()
    write_raw(instances[2], keyword, b"1x!")
    with pytest.raises(InputError) as caught:
        read_series(instances)
    assert caught.value.reason is reason


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_unreadable_tilt_and_padding_are_passed_over() -> None:
    instances = small_series()
    write_raw(instances[2], "GantryDetectorTilt", b"1x")
    write_raw(instances[2], "PixelPaddingValue", b"1")
    assert_same_volume(read_series(instances), small_phantom())


def write_raw(ds: FileDataset, keyword: str, value: bytes) -> None:
    """Put bytes into an element as a damaged file would."""
    tag = Tag(keyword)
    ds._dict[tag] = RawDataElement(tag, dictionary_VR(tag)[:2], len(value), value, 0, False, True)


# identity


def test_identity_is_the_same_from_metadata_without_pixels() -> None:
    instances = small_series()
    metadata = [Dataset.from_json(ds[:0x7FE00000].to_json()) for ds in instances]
    assert identity_of(metadata) == read_series(instances).identity == identity_of(instances[::-1])


def test_identity_of_nothing_is_refused_as_gone() -> None:
    with pytest.raises(InputError) as caught:
        identity_of([])
    assert caught.value.reason is Refusal.GONE
