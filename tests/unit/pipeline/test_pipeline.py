"""The stages on hand-made masks and a store in memory: the first stored object counts, and reports are made from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin import identity, pipeline
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import ContourStyle, Output, StoredObject
from orthanc_plugin.domain.radiomics_settings import RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.errors import StoreError
from orthanc_plugin.results import seg
from orthanc_plugin.results.rt import structure_set as rtstruct
from orthanc_plugin.results.sc import preview
from orthanc_plugin.results.sr.radiomics_table import read_radiomics_sr
from tests.support.cases.results_case import (
    AIRWAY,
    CARD,
    CREATED,
    LUNG_LEFT,
    LUNG_RIGHT,
    REPORT_TITLE,
    ellipsoids,
    provenance_of,
    small_series,
)

FINGERPRINT = "f" * 64
SEG_UID = identity.seg_uid(FINGERPRINT, CARD.digest, seg.SETTINGS)


class Store:
    """Keeps the first object of a UID and returns what it read from bytes; `late` is stored between look and store."""

    def __init__(self, *first: Dataset, late: Dataset | None = None, loses: bool = False) -> None:
        self.objects: dict[str, Dataset] = {}
        self.late, self.loses = late, loses
        for ds in first:
            self._keep(ds)

    def find(self, study_uid: str, series_uid: str, sop_uid: str) -> Dataset | None:
        found = self.objects.get(sop_uid)
        return found if found and (study_uid, series_uid) == (found.StudyInstanceUID, found.SeriesInstanceUID) else None

    def store(self, ds: Dataset) -> None:
        if self.late is not None:
            self._keep(self.late)
        if not self.loses:
            self._keep(ds)

    def _keep(self, ds: Dataset) -> None:
        stream = BytesIO()
        ds.save_as(stream, enforce_file_format=True)
        self.objects.setdefault(str(ds.SOPInstanceUID), dcmread(BytesIO(stream.getvalue())))


class Engine:
    """Returns a given segmentation and counts its calls."""

    card, provider = CARD, "cpu"

    def __init__(self, found: Segmentation) -> None:
        self.found, self.runs = found, 0

    def segment(self, volume: object) -> Segmentation:
        self.runs += 1
        return self.found


def context(store: Store) -> pipeline.Context:
    return pipeline.Context(FINGERPRINT, store, lambda: CREATED, REPORT_TITLE, pipeline.ReadBack())


def run(series: CtSeries, engine: Engine, store: Store) -> pipeline.SegmentResult:
    return pipeline.segment(series, engine, context(store))


def half(whole: Segmentation) -> Segmentation:
    """The same chest with half of its left lung: what other software may have stored."""
    labels = whole.labels.copy()
    lower = np.arange(len(labels))[:, None, None] < len(labels) / 2
    labels[(labels == LUNG_LEFT.number) & lower] = 1
    return replace(whole, labels=labels, notes=("made elsewhere",))


def stored_seg(series: CtSeries, found: Segmentation) -> Dataset:
    return seg.encode_seg(provenance_of(series, SEG_UID, provider="cpu"), found)


def reference(result: pipeline.SegmentResult) -> StoredObject:
    assert result.seg is not None
    return result.seg


def volume_of(report: Dataset, label: str) -> float:
    """Volume of a segment as a radiomics report says it, in mL."""
    (groups,) = (i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    for group in groups.ContentSequence:
        values = {i.ConceptNameCodeSequence[0].CodeValue: i for i in group.ContentSequence}
        if values["112039"].TextValue == label:
            return float(values["YEKZ"].MeasuredValueSequence[0].NumericValue) / 1000
    raise AssertionError(f"no group {label}")


def test_what_is_not_there_is_made_and_stored() -> None:
    series = small_series()
    found, store = ellipsoids(series), Store()
    result = run(series, engine := Engine(found), store)
    assert (engine.runs, [*store.objects], reference(result).adopted) == (1, [SEG_UID], False)
    voxels = np.count_nonzero(found.labels == LUNG_LEFT.number)
    assert result.volumes_ml["lung_left"] == pytest.approx(voxels * series.volume.voxel_ml)


def test_a_seg_that_is_there_is_adopted_without_inference_and_measured_as_it_is() -> None:
    series = small_series()
    whole = ellipsoids(series)
    store = Store(stored_seg(series, half(whole)))
    result = run(series, engine := Engine(whole), store)
    assert (engine.runs, reference(result).adopted, result.notes) == (0, True, ("made elsewhere",))
    lung_ml = np.count_nonzero(half(whole).labels == LUNG_LEFT.number) * series.volume.voxel_ml
    assert result.volumes_ml["lung_left"] == pytest.approx(lung_ml)
    measured = pipeline.measure(series, CARD, reference(result), "cpu", context(store))
    assert measured.stored is not None
    report = store.objects[measured.stored.sop_instance_uid]
    assert volume_of(report, LUNG_LEFT.label) == pytest.approx(lung_ml)


def test_a_seg_that_came_first_while_we_worked_is_adopted() -> None:
    series = small_series()
    whole = ellipsoids(series)
    result = run(series, engine := Engine(whole), Store(late=stored_seg(series, half(whole))))
    assert (engine.runs, reference(result).adopted, result.notes) == (1, True, ("made elsewhere",))


def test_reports_that_are_there_are_adopted() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    for make in (pipeline.measure, pipeline.report):
        first, again = (make(series, CARD, stored, "cpu", context(store)).stored for _ in range(2))
        assert first is not None
        assert again == replace(first, adopted=True)
    assert len(store.objects) == 3


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Output.RTSTRUCT, rtstruct.describe(ContourStyle.KEYHOLE)), (Output.PREVIEW, preview.SETTINGS)],
)
def test_what_decides_a_further_form_decides_its_uid(kind: Output, settings: str) -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    made = pipeline.export(kind, series, CARD, stored, "cpu", context(store)).stored
    assert made is not None
    assert made.sop_instance_uid == identity.sr_uid(stored.sop_instance_uid, kind, settings)


def test_contours_read_back_are_not_parsed_to_be_compared() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    made = pipeline.export(Output.RTSTRUCT, series, CARD, stored, "cpu", context(store)).stored
    assert made is not None
    assert not made.adopted
    kept = store.objects[made.sop_instance_uid].ROIContourSequence
    assert all(item.get_item("ContourSequence").is_raw for item in kept), "parsed, a chest takes minutes and gigabytes"


def test_a_structure_set_that_came_first_while_we_worked_is_adopted() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    earlier = replace(context(other := Store(store.objects[SEG_UID])), clock=lambda: CREATED - timedelta(seconds=1))
    pipeline.export(Output.RTSTRUCT, series, CARD, stored, "cpu", earlier)
    (first,) = (ds for uid, ds in other.objects.items() if uid != SEG_UID)
    late = Store(store.objects[SEG_UID], late=first)
    made = pipeline.export(Output.RTSTRUCT, series, CARD, stored, "cpu", context(late)).stored
    assert made is not None
    assert made.adopted


def test_an_archive_that_takes_and_does_not_give_back_is_an_error() -> None:
    series = small_series()
    with pytest.raises(StoreError, match="does not give it back"):
        run(series, Engine(ellipsoids(series)), Store(loses=True))


def test_a_seg_that_is_gone_stops_its_reports() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    store.objects.clear()
    for make in (pipeline.measure, pipeline.report):
        with pytest.raises(StoreError, match="is gone"):
            make(series, CARD, stored, "cpu", context(store))


def test_nothing_found_stores_nothing_and_says_why() -> None:
    series, store = small_series(), Store()
    nothing = Segmentation(np.zeros_like(series.volume.voxels_hu, np.uint8), (), ("no lung of plausible size",))
    result = run(series, Engine(nothing), store)
    assert (result.seg, result.volumes_ml, result.notes) == (None, {}, nothing.notes)
    assert store.objects == {}


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_organs_of_one_voxel_have_what_the_mode_defines_and_are_named(mode: RadiomicsMode) -> None:
    series, store = small_series(), Store()
    found = ellipsoids(series)
    found.labels[:] = 0
    found.labels[5, 5, 5], found.labels[6, 9, 9] = LUNG_LEFT.number, LUNG_RIGHT.number
    lungs = tuple(s for s in found.segments if s.key in (LUNG_LEFT.key, LUNG_RIGHT.key))
    stored = reference(run(series, Engine(replace(found, segments=lungs)), store))
    settings = RadiomicsSettings(mode=mode)
    result = pipeline.measure(series, CARD, stored, "cpu", replace(context(store), radiomics=settings))
    if mode is RadiomicsMode.IBSI:
        assert result.stored is not None
        assert {note.split(":")[0] for note in result.notes} == {LUNG_LEFT.label, LUNG_RIGHT.label}
        rows = read_radiomics_sr(store.objects[result.stored.sop_instance_uid])
        volumes = [row.value for row in rows if row.feature == "shape_VoxelVolume"]
        assert volumes == [pytest.approx(np.prod(series.volume.spacing_mm))] * 2
        return
    assert result.stored is None
    nothing, *organs = result.notes
    assert nothing == "radiomics: no structure could be measured"
    assert [note.split(":")[0] for note in organs] == [LUNG_LEFT.label, LUNG_RIGHT.label]


def test_without_lungs_there_is_no_landmark_report() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series, LUNG_LEFT, LUNG_RIGHT, AIRWAY)), store))
    result = pipeline.report(series, CARD, stored, "cpu", context(store))
    assert result.stored is None
    assert result.notes
    assert len(store.objects) == 1


def test_another_title_is_another_report_of_the_same_seg() -> None:
    series, store = small_series(), Store()
    stored = reference(run(series, Engine(ellipsoids(series)), store))
    ours = context(store)
    titled = replace(ours, title=replace(REPORT_TITLE, value="OTHER"))
    uids = {pipeline.report(series, CARD, stored, "cpu", c).stored for c in (ours, titled)}
    assert len(uids) == 2
