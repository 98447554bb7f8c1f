"""What people made of our SEGs is recognised however their editor wrote it, and what they drew anew is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.errors import TransientError
from orthanc_plugin.results.provenance import MANUFACTURER
from orthanc_plugin.validation.cases import Status
from orthanc_plugin.validation.corrections import REFERENCE, UNCHANGED, Compared, candidates, corrections_of, is_ours
from tests.support.cases.expert_case import (
    as_ohif_writes,
    by_ohif,
    by_slicer,
    drawn_seg,
    edited,
    ellipsoid,
    our_seg,
    read,
    small_ct,
    write,
)
from tests.support.cases.foreign_case import as_read, rtstruct, square

CT = small_ct()
SERIES = read(CT)
OURS = our_seg(SERIES)


def found(folder: Path, *objects: Dataset) -> list[Compared]:
    write(folder, *CT, OURS, *objects)
    archive = FolderArchive(folder, folder / "out")
    study = SERIES.identity.study_instance_uid
    return list(corrections_of(archive, study, lambda *place: SERIES, lambda patient_id: "pseudonym"))


def same_object_edited() -> Dataset:
    """Our SEG with a structure cut and nothing else changed but its UID, as a script or MITK leaves it."""
    ds = our_seg(SERIES, edited(SERIES))
    ds.SeriesInstanceUID = OURS.SeriesInstanceUID
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.6001"
    return ds


@pytest.mark.parametrize(
    ("edit", "maker"),
    [
        (by_ohif(SERIES, edited(SERIES)), "OHIF Editor"),
        (by_ohif(SERIES, edited(SERIES), "LABELMAP"), "OHIF Editor"),
        (by_ohif(SERIES, edited(SERIES), "FRACTIONAL"), "OHIF Editor"),
        (by_slicer(SERIES, edited(SERIES)), "QIICR Editor"),
        (same_object_edited(), f"{MANUFACTURER} orthanc-enrichment"),
    ],
    ids=["ohif", "ohif labelmap", "ohif fractional", "slicer", "same maker"],
)
def test_an_edit_is_recognised_and_measured(edit: Dataset, maker: str, tmp_path: Path) -> None:
    (one,) = found(tmp_path, edit)
    assert one.is_correction
    rows = {row.structure: row for row in one.case.rows}
    assert rows.keys() == {"Lung_L", "Lung_R", "Trachea and main bronchi"}
    assert {row.status for row in rows.values()} == {Status.BOTH}
    assert rows["Lung_R"].dice == rows["Trachea and main bronchi"].dice == 1.0
    assert 0.5 < (rows["Lung_L"].dice or 0) < 1
    assert rows["Lung_L"].hausdorff_mm == pytest.approx(8.0 * 5, abs=8)
    assert 0.3 < (rows["Lung_L"].unchanged_slices or 0) < 1
    assert {row.recognised_by for row in rows.values()} == {UNCHANGED}
    assert {(row.editor, row.patient, row.ai_sop_instance_uid) for row in rows.values()} == {
        (maker, "pseudonym", str(OURS.SOPInstanceUID))
    }


@pytest.mark.parametrize(("names_ours", "because"), [(False, UNCHANGED), (True, REFERENCE)])
def test_the_header_that_ohif_writes_is_that_of_a_correction(names_ours: bool, because: str, tmp_path: Path) -> None:
    edit = as_ohif_writes(SERIES, OURS, edited(SERIES), names_ours=names_ours)
    assert not is_ours(edit)
    (one,) = found(tmp_path, edit)
    assert one.is_correction
    rows = {row.structure: row for row in one.case.rows}
    assert {row.recognised_by for row in rows.values()} == {because}
    assert rows["Lung_R"].dice == 1.0
    assert 0.5 < (rows["Lung_L"].dice or 0) < 1
    assert {row.editor for row in rows.values()} == {"Unspecified Unspecified"}


def test_a_reference_is_enough(tmp_path: Path) -> None:
    masks = {"a": ellipsoid(SERIES, (0, 0, 0.4), (0.5, 0.4, 0.25))}
    edit = drawn_seg(SERIES, masks)
    item, series = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = OURS.SOPClassUID, OURS.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = OURS.SeriesInstanceUID, [item]
    edit.ReferencedSeriesSequence.append(series)
    (one,) = found(tmp_path, as_read(edit))
    assert one.is_correction
    assert {row.recognised_by for row in one.case.rows} == {REFERENCE}


def test_what_an_expert_drew_anew_is_no_correction(tmp_path: Path) -> None:
    masks = {
        "Left lung": ellipsoid(SERIES, (0.05, 0, 0.48), (0.68, 0.52, 0.31)),
        "Right lung": ellipsoid(SERIES, (0.05, 0, -0.48), (0.68, 0.52, 0.31)),
    }
    contours = {z: [square(20, 10, 26, 20)] for z in range(8, 14)}
    compared = found(tmp_path, drawn_seg(SERIES, masks), rtstruct(SERIES, {"Lung_L": contours}))
    assert [one.is_correction for one in compared] == [False, False]


def test_the_newest_result_that_it_resembles_is_meant(tmp_path: Path) -> None:
    other = our_seg(SERIES, {"airway": ellipsoid(SERIES, (0, 0, 0), (0.9, 0.1, 0.1))}, uid="2.25.5002")
    compared = found(tmp_path, other, by_ohif(SERIES, edited(SERIES)))
    assert {row.ai_sop_instance_uid for one in compared for row in one.case.rows} == {str(OURS.SOPInstanceUID)}


def test_an_edit_that_does_not_fit_is_a_row_with_the_reason(tmp_path: Path) -> None:
    edit = by_ohif(SERIES, edited(SERIES))
    edit.FrameOfReferenceUID = "2.25.9"
    (one,) = found(tmp_path, edit)
    assert not one.is_correction
    assert "2.25.9" in one.case.rows[0].reason


def test_objects_of_other_series_are_no_candidates(tmp_path: Path) -> None:
    edit = by_ohif(SERIES, edited(SERIES))
    edit.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.99"
    write(tmp_path, *CT, OURS, edit)
    archive = FolderArchive(tmp_path, tmp_path / "out")
    assert candidates(archive, SERIES.identity.study_instance_uid) == ()


def test_ours_is_what_we_stored_and_nothing_that_was_changed() -> None:
    assert is_ours(OURS)
    assert not is_ours(same_object_edited())
    assert not is_ours(by_ohif(SERIES, edited(SERIES)))
    exported = as_read(OURS)
    exported.SeriesInstanceUID, exported.PatientIdentityRemoved = "2.25.77", "YES"
    assert is_ours(exported)
    exported.SegmentSequence[0].SegmentAlgorithmType = "SEMIAUTOMATIC"
    assert not is_ours(exported)


def test_a_connection_that_rested_too_long_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, *CT, OURS, by_ohif(SERIES, edited(SERIES)))
    archive = FolderArchive(tmp_path, tmp_path / "out")
    retrieve, asked = archive.retrieve, []

    def closes_every_other_time(study: str, series: str) -> Iterator[Dataset]:
        asked.append(series)
        if len(asked) % 2:
            raise TransientError("archive folder: ConnectionError")
        return retrieve(study, series)

    monkeypatch.setattr(archive, "retrieve", closes_every_other_time)
    study = SERIES.identity.study_instance_uid
    (one,) = corrections_of(archive, study, lambda *place: SERIES, lambda patient_id: "")
    assert one.is_correction
    assert len(asked) == 4
