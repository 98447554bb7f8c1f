"""Results of tilted, unevenly spaced and incomplete series: masks lie on the source slices, and volumes are right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import pi

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from orthanc_plugin import identity, pipeline
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.reading import MissingSlices, ReadSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from orthanc_plugin.results import seg
from orthanc_plugin.series.read import read_series
from tests.support.cases.body_results_case import body_report, whole_body
from tests.support.cases.results_case import CARD, LUNG_LEFT, segment
from tests.support.phantoms.tilted import tilted_phantom
from tests.unit.pipeline.test_pipeline import Engine, Store, context, reference, run, volume_of

RADII_MM = np.array([30.0, 24.0, 36.0])
VOLUME_ML = 4 / 3 * pi * RADII_MM.prod() / 1000
SIZE = (60, 64, 64)
SPACING = (3.0, 2.0, 2.0)


@cache
def phantom() -> Phantom:
    return make_phantom(SIZE, SPACING)


def slices() -> list[FileDataset]:
    return encode_phantom(phantom())[::-1]


def every_second_above(made: list[FileDataset], middle: int) -> list[FileDataset]:
    return [*made[:middle], *made[middle::2]]


SERIES: dict[str, Callable[[], CtSeries]] = {
    "upright": lambda: read_series(slices()),
    "tilted by 15 degrees": lambda: read_series(tilted_phantom(phantom(), 15)),
    "tilted by 25 degrees": lambda: read_series(tilted_phantom(phantom(), -25)),
    "two spacings": lambda: read_series(every_second_above(slices(), 30)),
    "tilted, two spacings": lambda: read_series(every_second_above(tilted_phantom(phantom(), 15), 36)),
    "incomplete": lambda: read_series(
        [*slices()[:25], *slices()[26:]], ReadSettings(missing_slices=MissingSlices.INTERPOLATE)
    ),
}


def inside(points: np.ndarray, series: CtSeries, margin_mm: float = 0.0) -> np.ndarray:
    """Whether points (3, ...) in millimetres lie in the ellipsoid in the middle of the volume."""
    shape = np.array(series.volume.voxels_hu.shape)[::-1]
    middle = (series.volume.affine @ [*(shape - 1) / 2, 1])[:3]
    offset = points - middle.reshape(3, *[1] * (points.ndim - 1))
    radii = (RADII_MM + margin_mm).reshape(3, *[1] * (points.ndim - 1))
    return np.asarray(((offset / radii) ** 2).sum(axis=0) <= 1)


def ellipsoid(series: CtSeries) -> Segmentation:
    z, y, x = np.indices(series.volume.voxels_hu.shape)
    points = np.tensordot(series.volume.affine[:3, :3], np.stack([x, y, z]), 1)
    points += series.volume.affine[:3, 3].reshape(3, 1, 1, 1)
    labels = np.where(inside(points, series), np.uint8(LUNG_LEFT.number), np.uint8(0))
    return Segmentation(labels, (segment(LUNG_LEFT),))


@cache
def series_of(name: str) -> CtSeries:
    return SERIES[name]()


def stored(series: CtSeries) -> tuple[pipeline.SegmentResult, Store]:
    store = Store()
    return run(series, Engine(ellipsoid(series)), store), store


@pytest.mark.parametrize("name", SERIES)
def test_volume_and_radiomics_are_within_two_percent_of_the_formula(name: str) -> None:
    series = series_of(name)
    result, store = stored(series)
    assert result.volumes_ml["lung_left"] == pytest.approx(VOLUME_ML, rel=0.02)
    measured = pipeline.measure(series, CARD, reference(result), "cpu", context(store))
    assert measured.stored is not None
    report = store.objects[measured.stored.sop_instance_uid]
    assert volume_of(report, LUNG_LEFT.label) == pytest.approx(VOLUME_ML, rel=0.02)


@pytest.mark.parametrize("name", SERIES)
def test_stored_masks_lie_where_the_organ_is(name: str) -> None:
    series = series_of(name)
    result, store = stored(series)
    ds = store.objects[reference(result).sop_instance_uid]
    frames = seg.decode_seg(ds, series, CARD)
    labels = series.on_source(frames.labels)
    assert labels.shape == series.source_shape
    for plane, header in zip(labels, series.headers, strict=True):
        rows, columns = np.nonzero(plane)
        orientation = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        between = np.array(header.PixelSpacing, float)[::-1]
        steps = np.stack([columns, rows]).T * between @ orientation
        points = (np.array(header.ImagePositionPatient, float) + steps).T
        assert inside(points, series, margin_mm=4.0).all()
    assert ds.NumberOfFrames == np.count_nonzero(labels.any(axis=(1, 2)))


@pytest.mark.parametrize("name", [name for name in SERIES if name != "upright"])
def test_every_result_says_what_was_done(name: str) -> None:
    series = series_of(name)
    result, store = stored(series)
    assert series.marks
    assert result.notes[: len(series.marks)] == series.marks
    comments = str(store.objects[reference(result).sop_instance_uid].ImageComments)
    made = [pipeline.measure(series, CARD, reference(result), "cpu", context(store))]
    for kind in (Output.RTSTRUCT, Output.PREVIEW):
        made.append(pipeline.export(kind, series, CARD, reference(result), "cpu", context(store)))
    texts = [comments, *(text_of(store.objects[report.stored.sop_instance_uid]) for report in made if report.stored)]
    assert len(texts) == 4
    for mark in series.marks:
        assert all(mark in text for text in texts)


def text_of(ds: Dataset) -> str:
    comments = [str(item.TextValue) for item in ds.get("ContentSequence", ()) if item.ValueType == "TEXT"]
    return "\n".join([str(ds.get("StructureSetDescription", "")), str(ds.get("ImageComments", "")), *comments])


def test_an_ordinary_series_has_no_mark_and_its_uid_of_before() -> None:
    result, store = stored(series_of("upright"))
    uid = identity.seg_uid("f" * 64, CARD.digest, seg.SETTINGS)
    assert [*store.objects] == [uid] == [reference(result).sop_instance_uid]


def test_another_reading_has_results_of_its_own() -> None:
    series, store = series_of("incomplete"), Store()
    first = reference(run(series, Engine(ellipsoid(series)), store)).sop_instance_uid
    assert first != identity.seg_uid("f" * 64, CARD.digest, seg.SETTINGS)
    assert first == identity.seg_uid("f" * 64, CARD.digest, f"{seg.SETTINGS}; missing slices interpolated")


def test_reports_on_where_the_scan_lies_name_source_slices() -> None:
    series = series_of("two spacings")
    report = body_report(Output.VIEWER_LANDMARKS, series, whole_body(series))
    known = {str(header.SOPInstanceUID) for header in series.headers}
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in evidence.ReferencedSOPSequence} <= known
