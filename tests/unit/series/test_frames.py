"""Multi-frame CT comes out as the classic series that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from orthanc_plugin.domain.instances import frame_number
from orthanc_plugin.domain.reading import Phase, ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series
from tests.support.phantoms.multiframe import concatenated, enhanced_ct, legacy_enhanced_ct

Made = Sequence[Dataset]


@cache
def _phantom() -> tuple[FileDataset, ...]:
    return tuple(encode_phantom(make_phantom((12, 16, 20), (3.0, 2.0, 1.5))))


def slices() -> list[FileDataset]:
    return list(_phantom())


def compressed() -> Dataset:
    made = enhanced_ct(slices())
    made.compress(RLELossless)
    return made


def big_endian() -> Dataset:
    made = enhanced_ct(slices())
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    return made


def localizer_aside() -> Made:
    scout = enhanced_ct(slices()[:2])
    scout.SOPInstanceUID = "2.25.9"
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    return [scout, enhanced_ct(slices())]


READ: dict[str, Callable[[], Made]] = {
    "enhanced": lambda: [enhanced_ct(slices())],
    "frames in any order": lambda: [enhanced_ct([slices()[i] for i in np.random.default_rng(1).permutation(12)])],
    "legacy converted": lambda: [legacy_enhanced_ct(slices())],
    "concatenated": lambda: concatenated(slices(), 3),
    "RLE": lambda: [compressed()],
    "big endian": lambda: [big_endian()],
    "the same instance twice": lambda: [enhanced_ct(slices())] * 2,
    "with a localizer": localizer_aside,
    "two instances": lambda: [enhanced_ct(slices()[:5]), enhanced_ct(slices()[5:])],
}


@pytest.mark.parametrize("name", READ)
def test_multi_frame_is_the_classic_series(name: str) -> None:
    made = READ[name]()
    series, plain = read_series(made), read_series(slices())
    np.testing.assert_array_equal(series.volume.voxels_hu, plain.volume.voxels_hu)
    np.testing.assert_allclose(series.volume.affine, plain.volume.affine)
    assert series.identity == identity_of(made)
    assert (series.placement, series.marks, series.variant) == (None, (), "")


def test_each_header_is_its_frame() -> None:
    made = enhanced_ct(slices())
    series = read_series([made])
    frames = made.PerFrameFunctionalGroupsSequence
    for header in series.headers:
        number = frame_number(header)
        assert number is not None
        position = frames[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert header.ImagePositionPatient == position
        assert (header.SOPInstanceUID, "PixelData" in header) == (made.SOPInstanceUID, False)
    assert "ReferencedFrameNumber" not in made


def test_rescale_may_differ_from_frame_to_frame() -> None:
    made = enhanced_ct(slices())
    shared, frames = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence
    pixels = np.frombuffer(made.PixelData, "<i2").reshape(12, -1).copy()
    for number, frame in enumerate(frames):
        item = Dataset()
        item.RescaleSlope, item.RescaleType, item.RescaleIntercept = 1, "HU", -1024 - number
        frame.PixelValueTransformationSequence = [item]
        pixels[number] += number
    del shared.PixelValueTransformationSequence
    made.PixelData = pixels.tobytes()
    np.testing.assert_array_equal(read_series([made]).volume.voxels_hu, read_series(slices()).volume.voxels_hu)


def enhanced(change: Callable[[FileDataset], None]) -> Callable[[], Made]:
    def make() -> Made:
        made = enhanced_ct(slices())
        change(made)
        return [made]

    return make


def set_frames(count: int) -> Callable[[FileDataset], None]:
    return lambda ds: setattr(ds, "NumberOfFrames", count)


def without_position(ds: FileDataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def as_perfusion(ds: FileDataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleType = "US"


def cut_short(ds: FileDataset) -> None:
    ds.PixelData = ds.PixelData[:-2]


def no_groups(ds: FileDataset) -> None:
    ds.PerFrameFunctionalGroupsSequence = []


REFUSED: dict[str, tuple[Callable[[], Made], Refusal, str]] = {
    "more frames than groups": (enhanced(set_frames(13)), Refusal.UNREADABLE, "13 frames but 12 functional groups"),
    "frames without end": (enhanced(set_frames(10**9)), Refusal.TOO_LARGE, "voxels"),
    "no groups": (enhanced(no_groups), Refusal.UNREADABLE, "0 functional groups"),
    "a frame without position": (enhanced(without_position), Refusal.MISSING_GEOMETRY, "ImagePositionPatient"),
    "not HU": (enhanced(as_perfusion), Refusal.NOT_HU, "RescaleType"),
    "pixels missing": (enhanced(cut_short), Refusal.UNREADABLE, "12 frames take 7680"),
    "no pixels": (enhanced(lambda ds: delattr(ds, "PixelData")), Refusal.NO_PIXELS, "pixel data"),
    "part missing": (lambda: concatenated(slices(), 3)[::2], Refusal.MISSING_SLICE, "2 of 3 parts"),
    "other content under one UID": (
        lambda: [enhanced_ct(slices()), enhanced_ct([slices()[0], *slices()[:0:-1]])],
        Refusal.MIXED_IDENTITY,
        "different content",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_multi_frame(name: str) -> None:
    make, reason, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        read_series(make())
    assert caught.value.reason is reason


def four_d() -> FileDataset:
    """Three time points, the later the denser, in one instance: all slices of a time point, then the next."""
    made = enhanced_ct(slices() * 3, positions=[1] * 12 + [2] * 12 + [3] * 12)
    pixels = np.frombuffer(made.PixelData, "<i2").reshape(3, -1).copy()
    pixels += np.array([[0], [10], [20]], pixels.dtype)
    made.PixelData = pixels.tobytes()
    return made


def read(phase: Phase) -> CtSeries:
    return read_series([four_d()], ReadSettings(phase=phase))


def test_a_rule_chooses_the_phase_of_a_4d_instance() -> None:
    plain = read_series(slices()).volume.voxels_hu
    first, last = read(Phase.FIRST), read(Phase.LAST)
    np.testing.assert_array_equal(first.volume.voxels_hu, plain)
    np.testing.assert_array_equal(last.volume.voxels_hu, plain + 20)
    assert last.marks == ("phase 3 of 3 by TemporalPositionIndex (last): 12 of 36 images",)
    assert {frame_number(header) for header in last.headers} == set(range(25, 37))
    assert (first.variant, last.variant, first.identity) == ("phase=first", "phase=last", last.identity)


def test_phases_are_refused_unless_the_rule_chooses() -> None:
    with pytest.raises(InputError, match="3 images at each position") as caught:
        read_series([four_d()])
    assert caught.value.reason is Refusal.DUPLICATE_POSITIONS
