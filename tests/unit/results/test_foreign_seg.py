"""SEGs of other makers, on the grid of the CT: every type, any order of frames, refused where they do not fit."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from rle.rle import encode_segment

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import InputError, MaskError, Refusal
from orthanc_plugin.results import seg
from orthanc_plugin.results.seg.foreign import read_foreign_seg
from tests.support.cases.foreign_case import balls, by_number, highdicom_seg
from tests.support.cases.results_case import SEG_UID, ellipsoids, provenance_of, small_series

SERIES = small_series()
MASKS = balls(SERIES, (0.2, 0.1, 0.4), (-0.3, 0.0, -0.5), radius=0.4)
OVERLAPPING = balls(SERIES, (0.0, 0.0, 0.1), (0.0, 0.0, -0.1), (0.0, 0.1, 0.0))


def assert_read(ds: Dataset, masks: list[Mask], series: CtSeries = SERIES) -> None:
    found = by_number(read_foreign_seg(ds, series))
    assert sorted(found) == [*range(1, len(masks) + 1)]
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(found[number], mask, strict=True)


def frames_of(ds: Dataset) -> list[np.ndarray]:
    pixels = ds.pixel_array
    return [*(pixels if pixels.ndim == 3 else pixels[None])]


def with_frames(
    ds: Dataset, order: list[int], turn: Callable[[np.ndarray], np.ndarray] = lambda frame: frame
) -> Dataset:
    """The same SEG with its frames in another order, each turned."""
    frames, groups = frames_of(ds), list(ds.PerFrameFunctionalGroupsSequence)
    kept = [turn(frames[index]) for index in order]
    ds.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    ds.NumberOfFrames = len(order)
    ds.Rows, ds.Columns = kept[0].shape
    bits = np.concatenate([frame.ravel() for frame in kept])
    packed = np.packbits(bits, bitorder="little").tobytes() if ds.BitsAllocated == 1 else bits.tobytes()
    ds.PixelData = packed + b"\0" * (len(packed) % 2)
    return ds


@pytest.mark.parametrize("empty", [True, False], ids=["sparse", "with empty frames"])
def test_binary_with_or_without_empty_frames(empty: bool) -> None:
    assert_read(highdicom_seg(SERIES, MASKS, omit_empty_frames=empty), MASKS)


def test_overlapping_segments_need_several_layers() -> None:
    ds = highdicom_seg(SERIES, OVERLAPPING)
    assert_read(ds, OVERLAPPING)
    assert len(read_foreign_seg(ds, SERIES).layers) == 3


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_labelmap(syntax: str) -> None:
    assert_read(highdicom_seg(SERIES, MASKS, "LABELMAP", transfer_syntax_uid=syntax), MASKS)


def packed(frame: np.ndarray) -> bytes:
    return np.packbits(frame.ravel(), bitorder="little").tobytes()


def deflated(frame: np.ndarray) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(packed(frame)) + deflater.flush()
    return data + b"\0" * (len(data) % 2)


def run_lengths(frame: np.ndarray) -> bytes:
    data = encode_segment(packed(frame), len(packed(frame)))
    return struct.pack("<16L", 1, 64, *[0] * 14) + data


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [("1.2.840.10008.1.2.8.1", deflated), (RLELossless, run_lengths)],
    ids=["deflated image frames", "RLE of packed bits"],
)
@pytest.mark.parametrize("columns", [32, 31])
def test_packed_bits_may_be_compressed(syntax: str, encode: Callable[[np.ndarray], bytes], columns: int) -> None:
    series = small_series(32, columns)
    masks = balls(series, (0.2, 0.1, 0.4), (-0.3, 0.0, -0.5), radius=0.4)
    ds = highdicom_seg(series, masks)
    ds.PixelData = encapsulate([encode(frame) for frame in frames_of(ds)])
    ds.file_meta.TransferSyntaxUID = syntax
    assert_read(ds, masks, series)


def test_an_unknown_compression_is_named() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    with pytest.raises(MaskError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.4\.102"):
        read_foreign_seg(ds, SERIES)


def test_fractional_counts_from_one_half_and_says_so() -> None:
    half, less = MASKS[0] * 0.5, MASKS[1] * 0.49
    ds = highdicom_seg(SERIES, [half, less], "FRACTIONAL", fractional_type="PROBABILITY", max_fractional_value=200)
    found = read_foreign_seg(ds, SERIES)
    np.testing.assert_array_equal(by_number(found)[1], MASKS[0])
    assert [(structure.number, reason) for structure, reason in found.refused] == [(2, "the segment has no voxel")]
    assert "fractional masks count from one half" in found.notes


@pytest.mark.parametrize("encoding", SegEncoding)
def test_segs_of_our_own_are_read_as_those_of_others(encoding: SegEncoding) -> None:
    stored = seg.encode_seg(provenance_of(SERIES, SEG_UID), ellipsoids(SERIES), SegSettings(encoding))
    found = by_number(read_foreign_seg(stored, SERIES))
    kept = {s.number: ellipsoids(SERIES).mask(replace(s, covers=(_label(s.key),))) for s in _decoded(stored)}
    assert found.keys() == kept.keys()
    for number, mask in kept.items():
        np.testing.assert_array_equal(found[number], mask)


def _label(key: str) -> int:
    (segment,) = (one for one in ellipsoids(SERIES).segments if one.key == key)
    return segment.number


def _decoded(stored: Dataset) -> list:
    from tests.support.cases.results_case import CARD

    return [*seg.decode_seg(stored, SERIES, CARD).segments]


def test_frames_may_come_in_any_order() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    order = np.random.default_rng(1).permutation(int(ds.NumberOfFrames)).tolist()
    assert_read(with_frames(ds, order), MASKS)


@pytest.mark.parametrize(
    ("turn", "orientation", "corner"),
    [
        (np.fliplr, [-1, 0, 0, 0, 1, 0], (31, 0)),
        (np.flipud, [1, 0, 0, 0, -1, 0], (0, 31)),
        (np.transpose, [0, 1, 0, 1, 0, 0], (0, 0)),
    ],
)
def test_frames_may_be_turned_within_their_plane(
    turn: Callable[[np.ndarray], np.ndarray], orientation: list[float], corner: tuple[int, int]
) -> None:
    ds = highdicom_seg(SERIES, MASKS)
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    for groups in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        groups.PlanePositionSequence[0].ImagePositionPatient = [x + 8 * corner[0], y + 8 * corner[1], z]
    assert_read(with_frames(ds, [*range(int(ds.NumberOfFrames))], turn), MASKS)


def shifted(ds: Dataset, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Dataset:
    for groups in ds.PerFrameFunctionalGroupsSequence:
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        moved = [float(a) + b for a, b in zip(position, (x, y, z), strict=True)]
        groups.PlanePositionSequence[0].ImagePositionPatient = moved
    return ds


def test_frames_may_cover_a_part_of_the_image() -> None:
    ds = shifted(highdicom_seg(SERIES, MASKS), x=8.0 * 1, y=8.0 * 6)
    assert_read(with_frames(ds, [*range(int(ds.NumberOfFrames))], lambda frame: frame[6:30, 1:31]), MASKS)


@pytest.mark.parametrize(
    ("x", "y", "z"), [(4.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 2.5), (0.0, 0.0, 60.0), (400.0, 0.0, 0.0)]
)
def test_masks_on_another_grid_are_refused(x: float, y: float, z: float) -> None:
    with pytest.raises(MaskError) as refused:
        read_foreign_seg(shifted(highdicom_seg(SERIES, MASKS), x, y, z), SERIES)
    assert refused.value.reason is Refusal.MASK_GRID


def test_another_pixel_spacing_is_refused() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [8.1, 8.0]
    with pytest.raises(MaskError, match="not those of the CT"):
        read_foreign_seg(ds, SERIES)


def test_a_tilted_frame_is_refused() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    orientation = [0.9, 0, 0.435889894, 0, 1, 0]
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    with pytest.raises(MaskError, match="lies on no slice"):
        read_foreign_seg(ds, SERIES)


@pytest.mark.parametrize("stated", ["2.25.999", None])
def test_another_frame_of_reference_is_refused_with_a_typed_error(stated: str | None) -> None:
    ds = highdicom_seg(SERIES, MASKS)
    ds.FrameOfReferenceUID = stated
    with pytest.raises(MaskError, match="frame of reference") as refused:
        read_foreign_seg(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_FRAME_OF_REFERENCE
    assert isinstance(refused.value, InputError)


def test_masks_drawn_on_another_series_are_refused() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.999"
    with pytest.raises(MaskError, match=r"another series: 2\.25\.999") as refused:
        read_foreign_seg(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_OTHER_SERIES


def test_masks_that_name_no_series_are_placed_by_position_and_say_so() -> None:
    ds = highdicom_seg(SERIES, MASKS)
    del ds.ReferencedSeriesSequence
    for groups in ds.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    assert_read(ds, MASKS)
    assert any("name no series" in note for note in read_foreign_seg(ds, SERIES).notes)


def test_a_frame_of_reference_for_each_slice_is_one_of_the_series() -> None:
    many = replace(
        SERIES,
        frame_of_reference_uid="2.25.5",
        identity=replace(SERIES.identity, frame_of_reference_uids=("2.25.400", "2.25.401")),
    )
    assert_read(highdicom_seg(SERIES, MASKS), MASKS, many)


def test_segments_keep_number_name_and_code() -> None:
    first, second = read_foreign_seg(highdicom_seg(SERIES, MASKS), SERIES).segments
    assert (first.number, first.label) == (1, "Lesion 1")
    assert (second.number, second.label) == (2, "Lesion 2")
    assert first.type == Code("52988006", "SCT", "Lesion")
    assert first.modifier is None


@pytest.mark.parametrize(
    ("charset", "encoding"), [("ISO_IR 192", "utf-8"), ("ISO_IR 100", "latin-1"), ("", "utf-8"), ("", "latin-1")]
)
def test_names_of_any_script_are_read_though_no_character_set_is_declared(charset: str, encoding: str) -> None:
    ds = highdicom_seg(SERIES, MASKS)
    names = ["Läsion", "Läsion 病変" if encoding == "utf-8" else "Tumeur élevée"]
    for item, name in zip(ds.SegmentSequence, names, strict=True):
        item.SegmentLabel = "?" * (len(name.encode(encoding)))
    buffer = BytesIO()
    ds.SpecificCharacterSet = charset or "ISO_IR 6"
    ds.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    for name in names:
        raw = name.encode(encoding)
        content = content.replace(b"?" * len(raw), raw, 1)
    read = dcmread(BytesIO(content))
    if not charset:
        del read.SpecificCharacterSet
        buffer = BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read.save_as(buffer, enforce_file_format=True)
        read = dcmread(BytesIO(buffer.getvalue()))
    assert [one.label for one in read_foreign_seg(read, SERIES).segments] == names


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "two segments of the SEG have the number 1"), (None, "has no number")],
    ids=["twice", "none"],
)
def test_segments_without_a_number_of_their_own_are_refused(kind: str, number: int | None, said: str) -> None:
    ds = highdicom_seg(SERIES, MASKS, kind)
    ds.SegmentSequence[-1].SegmentNumber = number
    with pytest.raises(MaskError, match=said) as refused:
        read_foreign_seg(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_UNREADABLE
    if number is None:
        del ds.SegmentSequence[-1].SegmentNumber
        with pytest.raises(MaskError, match=said):
            read_foreign_seg(ds, SERIES)


@pytest.mark.parametrize("spoil", ["no groups", "cut pixels", "no segment item", "no number", "unknown type"])
def test_a_seg_that_cannot_be_read_is_refused(spoil: str) -> None:
    ds = highdicom_seg(SERIES, MASKS)
    if spoil == "no groups":
        del ds.PerFrameFunctionalGroupsSequence
    elif spoil == "cut pixels":
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
    elif spoil == "no segment item":
        ds.SegmentSequence = ds.SegmentSequence[:1]
    elif spoil == "no number":
        for groups in ds.PerFrameFunctionalGroupsSequence:
            groups.SegmentIdentificationSequence = []
    else:
        ds.SegmentationType = "NEVER"
    with pytest.raises(MaskError) as refused:
        read_foreign_seg(ds, SERIES)
    assert refused.value.reason is Refusal.MASK_UNREADABLE


def test_more_than_255_segments_are_read() -> None:
    masks = []
    for number in range(300):
        mask = np.zeros(SERIES.source_shape, bool)
        mask[number % 12, number // 12, number % 32] = True
        masks.append(mask)
    assert_read(highdicom_seg(SERIES, masks), masks)
