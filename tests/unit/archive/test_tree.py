"""A folder tree as an archive: sources anywhere below it, results at their UIDs, nothing overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.probe import find_problem
from orthanc_plugin.archive.tree import TreeArchive
from orthanc_plugin.config.archives import ArchiveSettings
from orthanc_plugin.errors import InputError, Refusal, StoreError, TransientError
from tests.support.fakes.memory_archive import ct_series, ct_slice

STUDY, SERIES = "1.2", "1.2.3"


@pytest.fixture
def archive(tmp_path: Path) -> TreeArchive:
    return TreeArchive("nas", tmp_path)


def put(folder: Path, *instances: Dataset) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"IM{number:03d}" for number in range(len(instances))]
    for file, ds in zip(files, instances, strict=True):
        ds.save_as(file, enforce_file_format=True)
    return files


def test_a_series_anywhere_below_the_folder_is_read(archive: TreeArchive, tmp_path: Path) -> None:
    series = ct_series(3)
    put(tmp_path / "export" / "7", *series)
    assert archive.same_series_studies(SERIES) == ((STUDY, "P1"),)
    assert archive.ct_series(STUDY) == (SERIES,)
    assert {ds.SOPInstanceUID for ds in archive.headers(STUDY, SERIES)} == {ds.SOPInstanceUID for ds in series}
    assert [ds.PixelData for ds in archive.retrieve(STUDY, SERIES)] == [ds.PixelData for ds in series]
    found = archive.find(STUDY, SERIES, series[1].SOPInstanceUID)
    assert found is not None
    assert found.InstanceNumber == 2


def test_series_with_masks_are_listed(archive: TreeArchive, tmp_path: Path) -> None:
    put(tmp_path / "a", *ct_series(1), *ct_series(1, series="1.2.6", modality="RTSTRUCT"))
    put(tmp_path / "b", *ct_series(1, series="1.2.5", modality="SEG"))
    assert archive.mask_series(STUDY) == ("1.2.5", "1.2.6")
    assert archive.mask_series("1.9") == ()


def described(study: str, text: str) -> list[Dataset]:
    made = ct_series(1, series=f"{study}.3", study=study)
    made[0].StudyDescription = text
    return made


def test_studies_are_found_by_a_query(archive: TreeArchive, tmp_path: Path) -> None:
    put(tmp_path / "a", *ct_series(2))
    put(tmp_path / "b", *ct_series(2, series="1.5.3", study="1.5", patient="P2"))
    assert archive.studies({"PatientID": "P2"}, 0) == ("1.5",)
    assert archive.studies({"StudyDate": "20251201-"}, 0) == (STUDY, "1.5")
    assert archive.studies({"StudyDate": "20251201-"}, 2) == ()
    put(tmp_path / "c", *described("1.6", "CHEST [LUNG]"))
    assert archive.studies({"StudyDescription": "CHEST [LUNG]"}, 0) == ("1.6",)
    assert archive.studies({"StudyDescription": "*[L?NG]"}, 0) == ("1.6",)


def test_files_that_come_change_and_go_are_seen(archive: TreeArchive, tmp_path: Path) -> None:
    files = put(tmp_path / "a", *ct_series(2))
    assert len(archive.headers(STUDY, SERIES)) == 2
    put(tmp_path / "b", ct_slice(3))
    assert len(archive.headers(STUDY, SERIES)) == 3
    files[0].write_bytes(files[0].read_bytes()[:400])  # a copy that broke off
    with pytest.raises(InputError) as refusal:
        archive.headers(STUDY, SERIES)
    assert refusal.value.reason is Refusal.UNREADABLE
    files[0].unlink()
    assert len(archive.headers(STUDY, SERIES)) == 2


def test_a_file_is_read_for_its_uids_once(
    archive: TreeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a", *ct_series(3))
    archive.ct_series(STUDY)
    monkeypatch.setattr("orthanc_plugin.archive.tree.identity_of_file", lambda file: pytest.fail(f"{file} again"))
    assert archive.ct_series(STUDY) == (SERIES,)
    assert archive.headers(STUDY, SERIES) is archive.headers(STUDY, SERIES)


def test_a_result_becomes_study_series_sop(archive: TreeArchive, tmp_path: Path) -> None:
    ds = ct_slice(1)
    archive.store(ds)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path(STUDY, SERIES, f"{ds.SOPInstanceUID}.dcm")
    ]
    assert archive.holds(STUDY, SERIES, ds.SOPInstanceUID)
    assert dcmread(tmp_path / STUDY / SERIES / f"{ds.SOPInstanceUID}.dcm").PixelData == ds.PixelData


def test_the_first_object_of_a_uid_stays(archive: TreeArchive) -> None:
    first, second = ct_slice(1), ct_slice(1)
    second.PixelData = bytes([1]) * 128
    archive.store(first)
    archive.store(second)
    found = archive.find(STUDY, SERIES, first.SOPInstanceUID)
    assert found is not None
    assert found.PixelData == first.PixelData


@pytest.mark.parametrize("there", [b"a text", b""])
def test_another_file_in_its_place_is_never_overwritten(archive: TreeArchive, tmp_path: Path, there: bytes) -> None:
    ds = ct_slice(1)
    path = tmp_path / STUDY / SERIES / f"{ds.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(there)
    with pytest.raises(StoreError, match="another object lies where"):
        archive.store(ds)
    assert path.read_bytes() == there
    assert archive.find(STUDY, SERIES, ds.SOPInstanceUID) is None


def test_another_object_in_its_place_is_never_overwritten(archive: TreeArchive, tmp_path: Path) -> None:
    ds, other = ct_slice(1), ct_slice(2)
    path = tmp_path / STUDY / SERIES / f"{ds.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True)
    other.save_as(path, enforce_file_format=True)
    with pytest.raises(StoreError, match="it stays"):
        archive.store(ds)
    assert dcmread(path).SOPInstanceUID == other.SOPInstanceUID


@pytest.mark.parametrize("links", [True, False])
def test_nobody_sees_half_a_file(
    archive: TreeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """A writer that dies leaves nothing under the name, and what it leaves is no source."""

    def without_links(self: Path, target: Path) -> None:
        raise PermissionError(1, "no links on this drive")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    ds = ct_slice(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(TransientError, match="cannot be written: No space left"):
            archive.store(ds)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / STUDY / SERIES / ".left.partial").write_bytes(b"half")
    put(tmp_path / "a", *ct_series(2, series="1.2.4"))
    assert archive.same_series_studies(SERIES) == ()
    archive.store(ds)
    assert archive.holds(STUDY, SERIES, ds.SOPInstanceUID)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../etc", "", "1.2/3", "1.2\n3"])
def test_a_uid_is_no_way_out_of_the_folder(archive: TreeArchive, tmp_path: Path, uid: str) -> None:
    ds = ct_slice(1)
    ds.SeriesInstanceUID = uid
    with pytest.raises(InputError):
        archive.store(ds)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_mounted_is_away_and_its_series_are_not_gone(tmp_path: Path) -> None:
    settings = ArchiveSettings.model_validate({"Folder": str(tmp_path / "nas")})
    archive = open_archive("nas", settings)
    for ask in (
        lambda: archive.headers(STUDY, SERIES),
        lambda: archive.find(STUDY, SERIES, "1.2.3.1"),
        lambda: archive.store(ct_slice(1)),
    ):
        with pytest.raises(TransientError, match="is not there; is it mounted"):
            ask()
    assert "is it mounted" in find_problem("nas", settings)
    (tmp_path / "nas").mkdir()  # the mount point of a drive that is not mounted
    with pytest.raises(TransientError, match="is empty; is it mounted"):
        archive.headers(STUDY, SERIES)
    assert find_problem("nas", settings) == ""
    put(tmp_path / "nas" / "a", ct_slice(1))
    with pytest.raises(InputError) as refusal:
        list(archive.retrieve(STUDY, "1.2.9"))
    assert refusal.value.reason is Refusal.GONE
