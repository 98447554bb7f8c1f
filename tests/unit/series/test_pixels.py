"""Stored pixels to HU: every transfer syntax that can be decoded gives the same slice, the others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import HTJ2K, UID, HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.pixels import Rescale, decode, fill_hu, padding_of, rescale_of
from orthanc_plugin.series.read import read_series
from tests.support.cases.compressed import LOSSLESS, compressed
from tests.support.cases.realct import real_ct

LARGEST_ERROR_HU = {
    "1.2.840.10008.1.2": 0,
    "1.2.840.10008.1.2.1.99": 0,
    "1.2.840.10008.1.2.2": 0,
    "1.2.840.10008.1.2.5": 0,
    "1.2.840.10008.1.2.4.57": 0,
    "1.2.840.10008.1.2.4.70": 0,
    "1.2.840.10008.1.2.4.80": 0,
    "1.2.840.10008.1.2.4.90": 0,
    "1.2.840.10008.1.2.4.81": 1,
    "1.2.840.10008.1.2.4.91": 5,
    "1.2.840.10008.1.2.4.51": 36,
    "1.2.840.10008.1.2.4.53": 36,
    "1.2.840.10008.1.2.4.55": 36,
    "1.2.840.10008.1.2.4.50": 65,
}
"""Transfer syntax to the difference its (lossy) encoder left; the last holds 8 bits, 32 HU a step."""

UNDECODABLE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.110", "1.2.3")
"""JPIP, which holds an address instead of pixels; video; JPEG XL, which pydicom does not know; nothing at all."""


def cs3d(syntax: str) -> Dataset:
    (path,) = real_ct("cs3d_ct_all_syntaxes").glob(f"CTImage.dcm_*_{syntax}.dcm")
    return dcmread(path)


def hu(ds: Dataset) -> np.ndarray:
    rescale = rescale_of(ds)
    return decode(ds) * rescale.slope + rescale.intercept


@pytest.mark.real_ct
@pytest.mark.parametrize("syntax", LARGEST_ERROR_HU)
def test_one_slice_in_every_syntax(syntax: str) -> None:
    difference = np.abs(hu(cs3d(syntax)) - hu(cs3d("1.2.840.10008.1.2.1")))
    assert difference.max() <= LARGEST_ERROR_HU[syntax]


@pytest.mark.parametrize("syntax", UNDECODABLE)
def test_syntax_without_decoder_is_refused(syntax: str) -> None:
    ds = encode_phantom(make_phantom((4, 16, 20)))[0]
    ds.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    with pytest.raises(InputError, match="cannot be decoded") as caught:
        decode(ds)
    assert caught.value.reason is Refusal.UNREADABLE


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_compressed_phantom_is_the_phantom(syntax: str, signed: bool) -> None:
    phantom = make_phantom((4, 16, 20))
    plain, instances = ([as_represented(ds, signed) for ds in encode_phantom(phantom)] for _ in range(2))
    before = read_series(plain).volume.voxels_hu
    np.testing.assert_array_equal(before, phantom.volume.voxels_hu)
    instances = [compressed(ds, syntax) for ds in instances]
    stored = [ds.PixelData for ds in instances]
    series = read_series(instances)
    np.testing.assert_array_equal(series.volume.voxels_hu, before)
    assert [ds.PixelData for ds in instances] == stored
    assert not [note for note in series.notes if "loss" in note and syntax != HTJ2K]


def as_represented(ds: Dataset, signed: bool) -> Dataset:
    """Give the same HU in signed pixels, or in 12 bits unsigned with the intercept of a scanner."""
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns)
    hu = stored * ds.RescaleSlope + ds.RescaleIntercept
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0 if signed else -1024
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = (1, 16, 15) if signed else (0, 12, 11)
    ds.PixelData = (hu - ds.RescaleIntercept).astype("<i2" if signed else "<u2").tobytes()
    return ds


@pytest.mark.parametrize("plane_signed", [True, False], ids=["signed stream", "unsigned stream"])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless])
def test_the_header_decides_the_sign_where_the_stream_says_otherwise(syntax: str, plane_signed: bool) -> None:
    ds = as_represented(encode_phantom(make_phantom((4, 16, 20)))[1], signed=not plane_signed)
    stored = decode(ds)
    wrong = stored.astype(np.int16 if plane_signed else np.uint16)
    np.testing.assert_array_equal(decode(compressed(ds, syntax, wrong)), stored)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"])
def test_a_syntax_that_allows_loss_is_noted_unless_the_header_excludes_it(syntax: str) -> None:
    instances = [compressed(ds, syntax) for ds in encode_phantom(make_phantom((4, 16, 20)))]
    assert [note for note in read_series(instances).notes if "allows loss" in note]
    for ds in instances:
        ds.LossyImageCompression = "00"
    assert not [note for note in read_series(instances).notes if "loss" in note]


@pytest.mark.real_ct
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_real_slice_comes_out_of_every_lossless_syntax(syntax: str) -> None:
    file = sorted(file for file in real_ct("lidc_0314_chest").rglob("*.dcm") if file.is_file())[100]
    expected = decode(dcmread(file))
    np.testing.assert_array_equal(decode(compressed(dcmread(file), syntax)), expected)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_slices_of_1024_pixels_are_read(syntax: str) -> None:
    rng, instances = np.random.default_rng(3), encode_phantom(make_phantom((4, 16, 20)))
    ds = instances[1]
    pixels = rng.integers(0, 4096, (1024, 1024)).astype(np.uint16)
    ds.Rows = ds.Columns = 1024
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit, ds.PixelData = 0, 12, 11, pixels.tobytes()
    np.testing.assert_array_equal(decode(compressed(ds, syntax)), pixels)


def test_cut_stream_is_refused(tmp_path: Path) -> None:
    instances = encode_phantom(make_phantom((4, 16, 20)))
    instances[1].compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    instances[1].PixelData = instances[1].PixelData[:60]
    with pytest.raises(InputError) as caught:
        read_series(instances)
    assert caught.value.reason is Refusal.UNREADABLE


@pytest.mark.parametrize("filled", [False, True], ids=["cut", "cut and filled with zeros"])
@pytest.mark.parametrize("share", [0.3, 0.95])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_cut_frame_is_refused_in_every_syntax(syntax: str, share: float, filled: bool) -> None:
    ds = compressed(encode_phantom(make_phantom((4, 64, 64)))[1], syntax)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    kept = frame[: int(len(frame) * share)]
    ds.PixelData = encapsulate([kept + bytes(len(frame) - len(kept)) * filled], has_bot=False)
    with pytest.raises(InputError, match="cannot be decoded") as caught:
        decode(ds)
    assert caught.value.reason is Refusal.UNREADABLE


@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data")
def test_wrong_syntax_for_the_stream_is_refused() -> None:
    ds = encode_phantom(make_phantom((4, 16, 20)))[0]
    ds.file_meta.TransferSyntaxUID = HTJ2KLossless
    with pytest.raises(InputError, match="High-Throughput") as caught:
        decode(ds)
    assert caught.value.reason is Refusal.UNREADABLE


def padded(value: int | bytes, *, signed: bool, limit: int | None = None) -> Dataset:
    ds = Dataset()
    ds.PixelRepresentation = int(signed)
    ds.add_new("PixelPaddingValue", "OB" if isinstance(value, bytes) else "US" if value >= 0 else "SS", value)
    if limit is not None:
        ds.add_new("PixelPaddingRangeLimit", "SS", limit)
    return ds


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (Dataset(), None),
        (padded(-2000, signed=True), (-2000, -2000)),
        (padded(63536, signed=True), (-2000, -2000)),
        (padded((63536).to_bytes(2, "little"), signed=True), (-2000, -2000)),
        (padded(63536, signed=False), (63536, 63536)),
        (padded(-2000, signed=True, limit=-1500), (-2000, -1500)),
        (padded(1024, signed=True), None),
        (padded(-2000, signed=True, limit=1024), None),
    ],
    ids=["none", "signed", "unsigned notation", "bytes", "unsigned", "range", "water", "range into tissue"],
)
def test_padding_is_read_in_the_representation_of_the_pixels(ds: Dataset, expected: tuple[int, int] | None) -> None:
    assert padding_of(ds, Rescale(1.0, -1024.0)) == expected


def test_hu_of_unsigned_and_wide_pixels() -> None:
    out = np.empty((1, 3), np.float32)
    for dtype in (np.uint16, np.int32, np.uint8):
        replaced = fill_hu(np.array([[0, 100, 200]], dtype), Rescale(2.0, -100.0), None, out)
        np.testing.assert_array_equal(out, [[-100, 100, 300]])
        assert not replaced
