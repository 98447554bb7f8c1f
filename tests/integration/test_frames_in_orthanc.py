"""A chest with scouts, an Enhanced CT, a perfusion and a tilted head arrive in a real Orthanc and come out enriched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.conformance.cases import instances_in
from tests.conformance.readers import complaints
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.cases.realct import real_ct
from tests.support.cases.scouts import two_scouts
from tests.support.phantoms.multiframe import enhanced_ct

pytestmark = pytest.mark.real_ct

KINDS = ["SEG", "SR", "SR", "SR"]
RULE = {
    "Name": "first phase",
    "Phase": "first",
    "Match": {"TimePoints": None, "ExcludeKinds": ["localizer"]},
}


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc(section={"Rules": [RULE]}) as orthanc:
        orthanc.await_service()
        yield orthanc


def enriched(server: EnrichedOrthanc, instances: Sequence[Dataset], folder: Path) -> list[Dataset]:
    """Send instances as a study of their own and wait for its results."""
    study, series = generate_uid(), generate_uid()
    files = []
    for number, ds in enumerate(instances):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{number}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    server.stow(files)
    row = server.await_final(series, 300)
    assert row["state"] == "done", row
    results = server.results(study)
    for number, ds in enumerate(results):
        ds.save_as(folder / f"result{number}.dcm", enforce_file_format=True)
        assert complaints(folder / f"result{number}.dcm") == []
    return results


def seg_of(results: Sequence[Dataset]) -> Dataset:
    return next(ds for ds in results if ds.Modality == "SEG")


def chest() -> list[Dataset]:
    return list(instances_in(real_ct("cip_ct64/dicom")))


def reduced(name: str) -> list[Dataset]:
    """Take every second slice of a series and every fourth row and column: a job of seconds."""
    slices = sorted(instances_in(real_ct(name)), key=lambda ds: float(ds.ImagePositionPatient[2]))[::2]
    for ds in slices:
        ds.PixelData = np.ascontiguousarray(ds.pixel_array[::4, ::4]).tobytes()
        ds.Rows, ds.Columns = ds.Rows // 4, ds.Columns // 4
        ds.PixelSpacing = [4 * float(step) for step in ds.PixelSpacing]
    return slices


def test_lidc_with_two_scouts_comes_out_as_the_enhanced_ct_made_of_it(server: EnrichedOrthanc, tmp_path: Path) -> None:
    (tmp_path / "enhanced").mkdir()
    slices = reduced("lidc_0314_chest/dicom")
    of_enhanced = seg_of(enriched(server, [enhanced_ct(slices)], tmp_path / "enhanced"))
    scouts = two_scouts(slices)
    seg = seg_of(enriched(server, [scouts[0], *slices, scouts[1]], tmp_path))
    assert [item.SegmentLabel for item in seg.SegmentSequence][:2] == ["Left lung", "Right lung"]
    assert seg.PixelData == of_enhanced.PixelData
    (referenced,) = seg.ReferencedSeriesSequence
    named = {str(item.ReferencedSOPInstanceUID) for item in referenced.ReferencedInstanceSequence}
    assert named
    assert named.isdisjoint(str(ds.SOPInstanceUID) for ds in scouts)
    (row,) = server.rows(str(referenced.SeriesInstanceUID))
    notes = [note for stage in server.api(f"jobs/{row['job_id']}")["stages"] for note in stage["notes"]]
    assert "2 localizer(s) left out" in notes


def test_an_enhanced_ct_comes_out_as_the_classic_series_it_was_made_of(server: EnrichedOrthanc, tmp_path: Path) -> None:
    (tmp_path / "classic").mkdir()
    classic = enriched(server, chest(), tmp_path / "classic")
    made = enhanced_ct(chest())
    results = enriched(server, [made], tmp_path)
    assert sorted(ds.Modality for ds in results) == KINDS
    assert seg_of(results).PixelData == seg_of(classic).PixelData
    sources = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in seg_of(results).PerFrameFunctionalGroupsSequence
    ]
    assert {source.ReferencedSOPInstanceUID for source in sources} == {made.SOPInstanceUID}
    assert {int(source.ReferencedFrameNumber) for source in sources} <= set(range(1, made.NumberOfFrames + 1))


def test_the_first_phase_of_a_4d_instance_is_enriched(server: EnrichedOrthanc, tmp_path: Path) -> None:
    slices = chest()
    made = enhanced_ct([*slices, *slices], positions=[1] * len(slices) + [2] * len(slices))
    pixels = np.frombuffer(made.PixelData, "<i2").reshape(2, -1).copy()
    pixels[1] += 30
    made.PixelData = pixels.tobytes()
    seg = seg_of(enriched(server, [made], tmp_path))
    named = {
        int(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for groups in seg.PerFrameFunctionalGroupsSequence
    }
    assert named <= set(range(1, len(slices) + 1))
    assert "phase 1 of 2 by TemporalPositionIndex (first)" in seg.ImageComments


def test_a_tilted_head_comes_out_enriched_on_its_own_slices(server: EnrichedOrthanc, tmp_path: Path) -> None:
    head = [dcmread(path) for path in sorted(real_ct("gantry_tilt/philips_tilt").iterdir()) if path.name != "DIRFILE"]
    seg = seg_of(enriched(server, head, tmp_path))
    assert "gantry tilt of 18.5 degrees" in seg.ImageComments
    assert [item.SegmentLabel.split(" ")[0] for item in seg.SegmentSequence] == ["Bone"]
    places = {str(ds.SOPInstanceUID): [float(value) for value in ds.ImagePositionPatient] for ds in head}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = [float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient]
        assert place == pytest.approx(places[source], abs=1e-3)
