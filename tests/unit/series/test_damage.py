"""Pixels that could be decoded and still are not those that were sent: garbled rows, damaged slices."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import HTJ2KLossless, JPEGLosslessSV1, RLELossless

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from orthanc_plugin.series.damage import check_slices_whole, oddities
from orthanc_plugin.series.read import read_series
from orthanc_plugin.series.rows import check_row_length
from tests.support.cases.compressed import compressed
from tests.support.cases.hu_faults import SERIES, phantoms, planning_ct
from tests.support.cases.odd_series import chest, hu, store
from tests.support.cases.realct import real_ct

Plane = NDArray[np.float32]
SHAPE = (30, 80, 96)


@cache
def _phantom() -> tuple[bytes, ...]:
    def encoded(ds: Dataset) -> bytes:
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        return out.getvalue()

    return tuple(map(encoded, encode_phantom(make_thorax_phantom(SHAPE))))


def phantom() -> list[Dataset]:
    """Give a thorax of 30 slices of 80 x 96 pixels."""
    return [dcmread(io.BytesIO(file)) for file in _phantom()]


def told_of(series: list[Dataset]) -> str:
    """Give what is noted of a series, or its refusal."""
    try:
        return "; ".join(read_series(series).notes)
    except InputError as error:
        return f"{error.reason}: {error}"


# rows of another length


def relabelled(series: list[Dataset], rows: int, columns: int) -> list[Dataset]:
    for ds in series:
        ds.Rows, ds.Columns = rows, columns
    return series


@pytest.mark.parametrize(("rows", "columns"), [(96, 80), (40, 192), (160, 48), (64, 120)])
def test_rows_of_another_length_are_refused(rows: int, columns: int) -> None:
    with pytest.raises(InputError, match=f"one row of {columns} apart differ by") as caught:
        read_series(relabelled(phantom(), rows, columns))
    assert caught.value.reason is Refusal.UNREADABLE
    assert "pixels 96 apart" in str(caught.value)


def test_swapped_rows_are_refused_in_every_slice_of_a_compressed_series_too() -> None:
    series = relabelled([compressed(ds, RLELossless) for ds in phantom()], 96, 80)
    with pytest.raises(InputError, match="Rows and Columns are swapped or wrong"):
        read_series(series)


@pytest.mark.real_ct
@pytest.mark.parametrize("cut", [1, 2, 9, 20])
def test_swapped_rows_of_a_real_chest_are_refused(cut: int) -> None:
    series = chest()
    for ds in series:
        store(ds, hu(ds)[:, cut:])
        ds.Rows, ds.Columns = ds.Columns, ds.Rows
    with pytest.raises(InputError, match="swapped"):
        read_series(series)


# damaged slices


def native(series: list[Dataset], change: Callable[[bytes, int], bytes], at: int = 15) -> list[Dataset]:
    """Change the pixel data of one slice, from the middle on; its length stays."""
    data = series[at].PixelData
    changed = change(data, len(data) // 2)
    series[at].PixelData = changed[: len(data)].ljust(len(data), b"\0")
    return series


NATIVE: dict[str, Callable[[bytes, int], bytes]] = {
    "five rows zeroed": lambda data, at: data[:at] + bytes(5 * 192) + data[at + 5 * 192 :],
    "the rest zeroed": lambda data, at: data[:at],
    "five rows of ones": lambda data, at: data[:at] + b"\xff" * 5 * 192 + data[at + 5 * 192 :],
    "40 bytes lost": lambda data, at: data[:at] + data[at + 40 :],
    "60 bytes inserted": lambda data, at: data[:at] + data[:60] + data[at:],
    "a third of a row lost": lambda data, at: data[:at] + data[at + 64 :],
    "one byte lost": lambda data, at: data[:at] + data[at + 1 :],
}


@pytest.mark.parametrize("name", NATIVE)
def test_damage_in_the_middle_of_a_slice_is_refused_or_noted_with_its_number(name: str) -> None:
    series = phantom()
    assert read_series(series).notes == ()
    place = sorted(float(ds.ImagePositionPatient[2]) for ds in series).index(float(series[15].ImagePositionPatient[2]))
    told = told_of(native(series, NATIVE[name]))
    if name != "one byte lost":  # such values are no HU, which is told of the volume
        assert f"slice {place + 1} of 30 from the feet" in told
    assert told


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, HTJ2KLossless])
def test_a_compressed_slice_damaged_in_its_middle_is_refused_or_noted(syntax: str) -> None:
    series = [compressed(ds, syntax) for ds in phantom()]
    (frame,) = generate_frames(series[15].PixelData, number_of_frames=1)
    for part in (0.4, 0.5, 0.6):
        at = int(part * len(frame))
        series[15].PixelData = encapsulate([frame[:at] + b"\x55" * 12 + frame[at + 12 :]])
        told = told_of(series)
        assert "slice 15 of 30 from the feet" in told or "cannot be decoded" in told


@pytest.mark.real_ct
def test_how_much_damage_of_a_real_chest_is_told() -> None:
    """Every fourth slice that shows enough of a body; the shares of docs/geometry.md come from all series."""
    planes = [hu(ds).astype(np.float32) for ds in chest()]
    told = dict.fromkeys(("ten rows zeroed", "three rows zeroed", "a quarter of a row lost"), 0)
    looked_at = range(9, 70, 4)
    for index in looked_at:
        data = planes[index].ravel()
        at = len(data) // 2 - 20
        rows = {"ten rows zeroed": 640, "three rows zeroed": 192}
        garbled = {name: np.concatenate([data[:at], np.zeros(n), data[at + n :]]) for name, n in rows.items()}
        garbled["a quarter of a row lost"] = np.concatenate([data[:at], data[at + 16 :], data[:16]])
        for name, values in garbled.items():
            one = values.astype(np.float32).reshape(64, 64)
            told[name] += list(oddities([planes[index - 1], one, planes[index + 1]]))[1].is_odd
    assert told["ten rows zeroed"] == len(looked_at)
    assert told["three rows zeroed"] >= 0.9 * len(looked_at)
    assert told["a quarter of a row lost"] >= 0.9 * len(looked_at)


def test_an_htj2k_frame_that_openjph_gives_up_is_refused() -> None:
    series = [compressed(ds, HTJ2KLossless) for ds in phantom()]
    (frame,) = generate_frames(series[15].PixelData, number_of_frames=1)
    at = len(frame) // 2
    series[15].PixelData = encapsulate([frame[:at] + frame[at + 40 :]])
    with pytest.raises(InputError, match="cannot be decoded") as caught:
        read_series(series)
    assert caught.value.reason is Refusal.UNREADABLE


def test_the_first_and_the_last_slice_may_show_what_their_neighbours_do_not() -> None:
    planes = list(phantoms()["chest phantom"])
    assert check_slices_whole([np.full_like(planes[0], -1024), *planes[20:40], np.full_like(planes[0], -1024)]) == ()


# no false alarm


@pytest.mark.real_ct
@pytest.mark.parametrize("name", SERIES)
def test_no_slice_of_a_real_series_is_odd(name: str) -> None:
    from tests.unit.series.test_real import instances_in

    by_plane: dict[tuple[str, int, int], list[tuple[float, Plane]]] = {}
    for ds in instances_in(real_ct(name)):
        if "PixelData" not in ds or "NumberOfFrames" in ds:
            continue
        values = (ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)).astype(np.float32)
        key = (str(ds.get("SeriesInstanceUID")), *values.shape)
        by_plane.setdefault(key, []).append((float(ds.ImagePositionPatient[2]), values))
    for placed in by_plane.values():
        planes = [plane for _, plane in sorted(placed, key=lambda item: item[0])]
        check_row_length(np.stack(planes[:: len(planes) // 8 + 1]))
        if not name.startswith("gantry_tilt"):  # these are compared upright
            assert check_slices_whole(planes) == ()


@pytest.mark.real_ct
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gantry_tilt/philips_tilt", "gantry_tilt/ge_irregular_tilt"])
def test_tilted_heads_are_compared_upright(name: str) -> None:
    from tests.unit.series.test_real import instances_in

    slices = [ds for ds in instances_in(real_ct(name)) if "PixelData" in ds and "ImagePositionPatient" in ds]
    assert not [note for note in read_series(slices).notes if "damaged" in note]


@pytest.mark.real_ct
def test_no_slice_of_a_planning_ct_is_odd() -> None:
    """Every fourth; none of all 99 is odd."""
    for name, voxels in islice(planning_ct(real_ct("open_kbp")), 0, None, 4):
        assert check_slices_whole(voxels) == (), name
        check_row_length(voxels[:: len(voxels) // 8 + 1])


@pytest.mark.parametrize("name", phantoms())
def test_no_slice_of_a_phantom_is_odd(name: str) -> None:
    planes = phantoms()[name]
    check_row_length(planes[:: len(planes) // 8 + 1])
    assert not [oddity for oddity in oddities(planes) if oddity.is_odd]
