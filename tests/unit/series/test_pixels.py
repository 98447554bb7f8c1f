"""Stored pixels to HU: every transfer syntax that can be decoded gives the same slice, the others are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2KLossless, JPEGLSLossless, RLELossless

from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.pixels import Rescale, decode, fill_hu, padding_of, rescale_of
from orthanc_plugin.series.read import read_series
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
    "1.2.840.10008.1.2.4.50": 65,
}
"""Transfer syntax to the difference its (lossy) encoder left; the last holds 8 bits, 32 HU a step."""

UNDECODABLE = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")


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


@pytest.mark.real_ct
@pytest.mark.parametrize("syntax", UNDECODABLE)
def test_syntax_without_decoder_is_refused_by_name(syntax: str) -> None:
    with pytest.raises(InputError, match="JPEG") as caught:
        decode(cs3d(syntax))
    assert caught.value.reason is Refusal.UNREADABLE


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_phantom_is_the_phantom(syntax: str) -> None:
    phantom = make_phantom((4, 16, 20))
    instances = encode_phantom(phantom)
    for ds in instances:
        ds.compress(syntax, encoding_plugin="pylibjpeg" if syntax == RLELossless else "pyjpegls")
    np.testing.assert_array_equal(read_series(instances).volume.voxels_hu, phantom.volume.voxels_hu)


def test_cut_stream_is_refused(tmp_path: Path) -> None:
    instances = encode_phantom(make_phantom((4, 16, 20)))
    instances[1].compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    instances[1].PixelData = instances[1].PixelData[:60]
    with pytest.raises(InputError) as caught:
        read_series(instances)
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
