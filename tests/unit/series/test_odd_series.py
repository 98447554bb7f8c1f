"""Real CT with one fault or oddity each: rules and loader refuse it with the reason, or take it with the note."""

from __future__ import annotations

import io
from datetime import date

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from orthanc_plugin.config.rule import DEFAULT_RULE
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.inference.grid import canonical_turn
from orthanc_plugin.rules.decide import explain
from orthanc_plugin.rules.tags import SeriesTags, series_tags
from orthanc_plugin.series.identify import identity_of
from orthanc_plugin.series.read import read_series
from tests.support.cases.odd_series import ODD, Series, chest, hu, odd_series, store, turned

pytestmark = [
    pytest.mark.real_ct,
    pytest.mark.filterwarnings("ignore:Invalid value for VR"),
    pytest.mark.filterwarnings("ignore:The value length"),
]

REFUSED = [name for name, odd in ODD.items() if odd.reason is not None]
READ = [name for name, odd in ODD.items() if odd.reason is None]


def tags_of(series: Series) -> SeriesTags:
    return series_tags(series, archive="a", today=date(2026, 1, 1))


@pytest.fixture(scope="module")
def plain() -> CtSeries:
    return read_series(chest())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_reason(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_series(odd_series(name))
    assert caught.value.reason is ODD[name].reason, str(caught.value)


@pytest.mark.parametrize("name", READ)
def test_read_with_its_note_and_taken_by_the_default_rule(name: str, plain: CtSeries) -> None:
    series = odd_series(name)
    (verdict,) = explain([DEFAULT_RULE], tags_of(series))
    assert verdict.reasons == ()
    found = read_series(series)
    told = (*found.notes, *found.marks)
    assert ODD[name].note in " ".join(told)
    assert bool(told) == bool(ODD[name].note), told
    assert found.volume.voxels_hu.shape == plain.volume.voxels_hu.shape


@pytest.mark.parametrize("name", ["two scouts", "two scouts of another size", "same file twice", "nominal tilt"])
def test_volume_is_that_of_the_plain_series(name: str, plain: CtSeries) -> None:
    found = read_series(odd_series(name))
    np.testing.assert_array_equal(found.volume.voxels_hu, plain.volume.voxels_hu)
    np.testing.assert_allclose(found.volume.affine, plain.volume.affine)


@pytest.mark.parametrize("step", [0.625, 0.33, 0.5])
def test_rounded_positions_give_the_true_spacing_to_rules_and_loader(step: float) -> None:
    series = odd_series(f"positions of one decimal, {step}")
    assert read_series(series).volume.spacing_mm[0] == pytest.approx(step, abs=0.002)
    assert tags_of(series).spacing_mm == pytest.approx(step, abs=0.002)


def test_sagging_slices_are_placed_within_half_a_millimetre(plain: CtSeries) -> None:
    for name in ("table sag", "bent table"):
        series = read_series(odd_series(name))
        for index, header in enumerate(series.headers):
            place = (series.volume.affine @ [0, 0, index, 1])[:3]
            assert np.abs(place - np.array(header.ImagePositionPatient, float)).max() < 0.5


def test_frame_of_reference_is_derived_and_the_same_each_time() -> None:
    first, second = (read_series(odd_series("no frame of reference")) for _ in range(2))
    assert first.frame_of_reference_uid == second.frame_of_reference_uid
    assert first.frame_of_reference_uid.startswith("2.25.")


@pytest.mark.parametrize("degrees", [*range(-180, 181, 15), 44, 46, -44])
def test_rows_turned_in_the_axial_plane_are_axial_and_keep_left_and_back(degrees: int) -> None:
    series = chest()
    turned(degrees)(series)
    volume = read_series(series).volume
    assert tags_of(series).axial
    turn = canonical_turn(volume)
    indices = np.indices(volume.voxels_hu.shape)
    axes = [turn.forward(index) for index in indices]
    toward_left = (volume.affine[:3, :3] @ [float(np.diff(a, axis=2).mean()) for a in axes[::-1]])[0]
    toward_back = (volume.affine[:3, :3] @ [float(np.diff(a, axis=1).mean()) for a in axes[::-1]])[1]
    assert min(toward_left, toward_back) > 0.7 * volume.spacing_mm[1]


def test_offset_is_noted_with_its_size() -> None:
    for offset in (-200, -150, -100, 100, 150, 200):
        series = chest()
        for ds in series:
            ds.RescaleIntercept = str(offset)
        (note,) = [note for note in read_series(series).notes if "about" in note]
        assert int(note.split("about ")[1].split()[0]) == pytest.approx(offset, abs=30)


def test_message_of_an_invalid_uid_names_it() -> None:
    with pytest.raises(InputError, match=r"SeriesInstanceUID 1\.2\.826\.0\.01\.3680043\.2\.0007 is not a valid UID"):
        read_series(odd_series("series uid with a leading zero"))
    with pytest.raises(InputError) as caught:
        read_series(odd_series("study uid of 70 characters"))
    assert caught.value.reason is Refusal.INVALID_IDENTITY


@pytest.mark.parametrize("some", [slice(0, 40), slice(0, None, 2)], ids=["one half", "every second"])
def test_offset_of_some_slices_is_noted(some: slice) -> None:
    series = chest()
    for ds in series[some]:
        ds.RescaleIntercept = "150"
    assert "HU apart" in " ".join(read_series(series).notes)


def test_rescales_that_give_the_same_values_are_not_noted() -> None:
    series = chest()
    for ds in series[::2]:
        store(ds, hu(ds) + 1024)
        ds.RescaleIntercept = "-1024"
    assert read_series(series).notes == ()


@pytest.mark.parametrize("other", ["nested", "damaged"])
def test_an_instance_that_comes_twice_and_cannot_be_compared_is_refused(other: str) -> None:
    files = [encoded(ds) for ds in chest()]
    at = files[5].index(bytes.fromhex("e07f1000"))
    begin, end = "4000750253510000fffffffffeff00e0ffffffff", "feff0de000000000feffdde000000000"
    put = bytes.fromhex(begin) * 150 + bytes.fromhex(end) * 150
    if other == "damaged":
        put = bytes.fromhex("55001010") + b"FL\x03\x00abc"
    files[5] = files[5][:at] + put + files[5][at:]
    for instances in (series_of(files), headers_of(files)):
        read = read_series if "PixelData" in instances[0] else identity_of
        with pytest.raises(InputError, match="comes twice cannot be compared") as caught:
            read([*instances, (series_of if read is read_series else headers_of)(files[5:6])[0]])
        assert caught.value.reason is Refusal.UNREADABLE


def encoded(ds: FileDataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def series_of(files: list[bytes]) -> Series:
    return [dcmread(io.BytesIO(file)) for file in files]


def headers_of(files: list[bytes]) -> Series:
    return [dcmread(io.BytesIO(file), stop_before_pixels=True) for file in files]
