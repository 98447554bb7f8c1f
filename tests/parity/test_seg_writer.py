"""Compares our SEG with highdicom's of the whole label map: the saved files are equal, byte for byte.

highdicom builds the reference from full headers and full planes, without the stand-in and without our frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from orthanc_plugin.catalog.card import CardLabel, ModelCard
from orthanc_plugin.domain.masks import Labels, Segmentation
from orthanc_plugin.domain.plan import Output, SegEncoding, SegSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results import seg
from orthanc_plugin.results.headers import complete, result_headers
from tests.support.cases.results_case import (
    BONE,
    CARD,
    LUNG_LEFT,
    SEG_UID,
    ellipsoids,
    provenance_of,
    segment,
    small_series,
)

MANY = replace(
    CARD, labels=tuple(replace(BONE, number=n, key=f"s{n}", label=f"Structure {n}", covers=(n,)) for n in range(1, 105))
)


def of(labels: Labels, *structures: CardLabel) -> Segmentation:
    return Segmentation(labels, tuple(segment(label) for label in structures))


def space(series: CtSeries) -> Labels:
    return np.zeros(series.volume.voxels_hu.shape, np.uint8)


def box(series: CtSeries, *slices: int) -> Segmentation:
    labels = space(series)
    labels[slices, 3:9, 5:20] = LUNG_LEFT.number
    return of(labels, LUNG_LEFT)


def gaps(series: CtSeries) -> Segmentation:
    """Two structures that come and go; slices between show nothing."""
    labels = space(series)
    labels[[2, 3, 7, 10], 4:8, 4:8] = LUNG_LEFT.number
    labels[[3, 8, 10], 20:24, 0:1] = BONE.number
    return of(labels, LUNG_LEFT, BONE)


def corners(series: CtSeries) -> Segmentation:
    """First and last voxel of the volume."""
    labels = space(series)
    labels[0, 0, 0], labels[-1, -1, -1] = LUNG_LEFT.number, BONE.number
    return of(labels, LUNG_LEFT, BONE)


def bands(series: CtSeries) -> Segmentation:
    """Whole rows, with empty rows between."""
    labels = space(series)
    labels[:, ::4], labels[1::3, 2::4] = LUNG_LEFT.number, BONE.number
    return of(labels, LUNG_LEFT, BONE)


def many(series: CtSeries) -> Segmentation:
    """104 small structures, random blocks that cut each other."""
    rng, labels = np.random.default_rng(0), space(series)
    for number in range(1, 105):
        z, y, x = (rng.integers(0, size - 4) for size in labels.shape)
        labels[z : z + 4, y : y + 3, x : x + 4] = number
    seen = set(np.unique(labels))
    return of(labels, *(label for label in MANY.labels if label.number in seen))


CASES: dict[str, Callable[[CtSeries], Segmentation]] = {
    "one segment": lambda series: box(series, 4, 5, 6),
    "one frame": lambda series: box(series, 4),
    "first slice": lambda series: box(series, 0),
    "last slice": lambda series: box(series, 11),
    "gaps": gaps,
    "corners": corners,
    "empty rows": bands,
    "one inside the other": ellipsoids,
    "104 structures": many,
}
SIZES = {
    SegEncoding.BINARY: [(32, 32), (33, 40)],
    SegEncoding.LABELMAP: [(31, 29)],
    SegEncoding.LABELMAP_RLE: [(31, 29)],
}


def card_of(found: Segmentation) -> ModelCard:
    keys = {s.key for s in found.segments}
    whole = MANY if "s1" in keys or "s104" in keys else CARD
    return replace(whole, labels=tuple(label for label in whole.labels if label.key in keys))


def ours(series: CtSeries, found: Segmentation, encoding: SegEncoding) -> Dataset:
    return seg.encode_seg(provenance_of(series, SEG_UID, card_of(found)), found, SegSettings(encoding, body=True))


def highdicoms(series: CtSeries, found: Segmentation, made: Dataset, encoding: SegEncoding) -> Dataset:
    """highdicom's SEG with the segments of ours."""
    numbers = np.zeros(256, np.uint8)
    covering_last = sorted(found.segments, key=lambda s: len(s.covers) > 1)
    numbers[[s.number for s in covering_last]] = np.arange(1, len(found.segments) + 1)
    items = [SegmentDescription.from_dataset(item) for item in made.SegmentSequence if item.SegmentNumber]
    provenance = provenance_of(series, SEG_UID, card_of(found))
    ds = seg.highdicom_seg(result_headers(series), numbers[found.labels], items, encoding, provenance)
    complete(ds, provenance, Output.SEG)
    ds.SegmentSequence = sorted(ds.SegmentSequence, key=lambda item: item.SegmentNumber == 0)
    ds.ImageComments = made.ImageComments
    if int(ds.NumberOfFrames) * ds.Rows * ds.Columns * ds.BitsAllocated // 8 % 2:
        ds.PixelData = ds.PixelData[:-1] + b"\0"  # PS3.5 8.1.1; highdicom 0.28.2 adds the character 0
    if encoding is SegEncoding.LABELMAP_RLE:  # by pydicom: highdicom would call gdcm, which aborts on small images
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    return ds


def saved(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("encoding", "size"), [(kind, size) for kind, sizes in SIZES.items() for size in sizes])
def test_the_saved_file_is_that_of_highdicom(encoding: SegEncoding, size: tuple[int, int], case: str) -> None:
    series = small_series(*size)
    found = CASES[case](series)
    made = ours(series, found, encoding)
    reference = saved(highdicoms(series, found, made, encoding))
    assert saved(made) == reference
    read = pydicom.dcmread(io.BytesIO(reference))
    assert made.PerFrameFunctionalGroupsSequence == read.PerFrameFunctionalGroupsSequence
    assert made.PixelData == read.PixelData
    assert saved(made) == reference  # parsed by now
