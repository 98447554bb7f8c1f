"""The main job in a real Orthanc: a CT arrives, SEG and SR come back; nothing is lost, nothing comes twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from orthanc_plugin.phantoms.dicom import write_phantom
from tests.support.cases.enriched import EnrichedOrthanc, files_of, small_chest
from tests.support.cases.realct import real_ct
from tests.support.servers.orthanc_server import wait_until

KINDS = ["SEG", "SR", "SR", "SR"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom as DICOM files."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, small_chest())
    return folder


@pytest.fixture(scope="module")
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    """One Orthanc with plugin, service and worker for the tests that leave it running."""
    with EnrichedOrthanc() as orthanc:
        orthanc.await_service()
        yield orthanc


def copy_of(folder: Path, out: Path, *, patient: str = "", first: int | None = None) -> tuple[list[Path], Dataset]:
    """The CT of a folder as another study (fresh UIDs); `first`: only so many slices."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for path in files_of(folder)[:first]:
        ds = dcmread(path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.PatientID = patient or ds.PatientID
        ds.save_as(out / path.name)
        files.append(out / path.name)
    return files, ds


def send_by_cstore(server: EnrichedOrthanc, files: list[Path]) -> None:
    entity = AE()
    syntaxes = {dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in files}
    entity.add_requested_context(CTImageStorage, list(syntaxes))
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    try:
        assert {association.send_c_store(path).Status for path in files} == {0x0000}
    finally:
        association.release()


def modalities(server: EnrichedOrthanc, study_uid: str) -> list[str]:
    return sorted(ds.Modality for ds in server.results(study_uid))


def test_ct_by_stow_and_by_cstore_come_out_enriched_alike(server: EnrichedOrthanc, tmp_path: Path) -> None:
    source = real_ct("cip_ct64/dicom")
    stow, stow_ds = copy_of(source, tmp_path / "stow")
    cstore, cstore_ds = copy_of(source, tmp_path / "cstore")
    server.stow(stow)
    send_by_cstore(server, cstore)
    rows = [server.await_final(ds.SeriesInstanceUID) for ds in (stow_ds, cstore_ds)]
    assert [row["state"] for row in rows] == ["done", "done"]
    one, other = (server.results(ds.StudyInstanceUID) for ds in (stow_ds, cstore_ds))
    assert sorted(ds.Modality for ds in one) == sorted(ds.Modality for ds in other) == KINDS
    pixels = [next(ds.PixelData for ds in results if ds.Modality == "SEG") for results in (one, other)]
    assert pixels[0] == pixels[1]


def test_results_start_nothing(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path)
    server.stow(files)
    assert server.await_final(ds.SeriesInstanceUID)["state"] == "done"
    results = server.results(ds.StudyInstanceUID)
    result_series = {result.SeriesInstanceUID for result in results}

    def all_stable() -> bool:
        found = server.rest(
            "/tools/find",
            "POST",
            {"Level": "Series", "Expand": True, "Query": {"StudyInstanceUID": ds.StudyInstanceUID}},
        )
        assert isinstance(found, list)
        return all(series["IsStable"] for series in found)

    wait_until(all_stable, 30, "stable results")
    second, second_ds = copy_of(phantom, tmp_path / "second")
    server.stow(second)
    server.await_final(second_ds.SeriesInstanceUID)
    known = {row["series_instance_uid"] for row in server.api("series?limit=500")["series"]}
    assert not known & result_series
    assert modalities(server, ds.StudyInstanceUID) == KINDS


def test_the_same_ct_twice_gives_one_result(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path)
    server.stow(files)
    first = server.await_final(ds.SeriesInstanceUID)
    assert first["state"] == "done"
    before = [result.SOPInstanceUID for result in server.results(ds.StudyInstanceUID)]
    server.stow(files)
    other, other_ds = copy_of(phantom, tmp_path / "other")
    server.stow(other)
    server.await_final(other_ds.SeriesInstanceUID)
    assert server.rows(ds.SeriesInstanceUID) == [first]
    assert [result.SOPInstanceUID for result in server.results(ds.StudyInstanceUID)] == before


def test_a_late_slice_makes_a_new_job_that_supersedes(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path)
    server.stow(files[:-1])
    server.await_final(ds.SeriesInstanceUID)
    server.stow(files[-1:])
    newest = server.await_final(ds.SeriesInstanceUID, rows=2)
    older = next(row for row in server.rows(ds.SeriesInstanceUID) if row["job_id"] != newest["job_id"])
    assert newest["state"] == "done"
    assert older["superseded_by"] == newest["fingerprint"]


def test_delete_and_resend_gives_one_new_result(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path)
    server.stow(files)
    first = server.await_final(ds.SeriesInstanceUID)
    before = {result.SOPInstanceUID for result in server.results(ds.StudyInstanceUID)}
    found = server.rest("/tools/find", "POST", {"Level": "Study", "Query": {"StudyInstanceUID": ds.StudyInstanceUID}})
    assert isinstance(found, list)
    server.rest(f"/studies/{found[0]}", "DELETE")
    server.stow(files)
    second = server.await_final(ds.SeriesInstanceUID, rows=2)
    after = {result.SOPInstanceUID for result in server.results(ds.StudyInstanceUID)}
    assert (first["state"], second["state"]) == ("done", "done")
    assert len(after) == len(KINDS)
    assert not before & after


def test_one_series_uid_under_two_patients_is_refused(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path / "one")
    for path in files:
        twin = dcmread(path)
        twin.PatientID, twin.StudyInstanceUID = "another patient", str(ds.StudyInstanceUID)[:-3] + "999"
        twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        twin.save_as(tmp_path / path.name)
    server.stow([*files, *(path for path in files_of(tmp_path) if path.parent == tmp_path)])
    assert server.await_final(ds.SeriesInstanceUID)["reason"] == "two-patients"
    assert {row["reason"] for row in server.rows(ds.SeriesInstanceUID)} == {"two-patients"}
    assert server.results(ds.StudyInstanceUID) == []


def test_what_cannot_be_enriched_gets_a_reason_and_orthanc_is_fine(
    server: EnrichedOrthanc, phantom: Path, tmp_path: Path
) -> None:
    two, two_ds = copy_of(phantom, tmp_path / "two", first=2)
    holed, holed_ds = copy_of(phantom, tmp_path / "holed")
    del holed[20]
    corrupt, corrupt_ds = copy_of(phantom, tmp_path / "corrupt")
    broken = dcmread(corrupt[5])
    broken.PixelData = broken.PixelData[: len(broken.PixelData) // 2]
    broken.save_as(corrupt[5])
    mr, mr_ds = copy_of(phantom, tmp_path / "mr")
    for path in mr:
        ds = dcmread(path)
        ds.Modality, ds.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.save_as(path)
    server.stow([*mr, *two, *holed, *corrupt])
    reasons = {
        name: server.await_final(ds.SeriesInstanceUID)["reason"]
        for name, ds in (("mr", mr_ds), ("two", two_ds), ("holed", holed_ds), ("corrupt", corrupt_ds))
    }
    assert reasons == {
        "mr": "not-ct",
        "two": "too-few-slices",
        "holed": "missing-slice",
        "corrupt": "unreadable",
    }
    for ds in (two_ds, holed_ds, corrupt_ds, mr_ds):
        assert server.results(ds.StudyInstanceUID) == []
    assert server.rest("/system")


def test_state_is_private(server: EnrichedOrthanc) -> None:
    assert server.state_directory.stat().st_mode & 0o777 == 0o700
    assert (server.state_directory / "jobs.db").stat().st_mode & 0o777 == 0o600


def test_no_patient_data_in_logs(server: EnrichedOrthanc, phantom: Path, tmp_path: Path) -> None:
    files, ds = copy_of(phantom, tmp_path, patient="SECRETPATIENT77")
    server.stow(files)
    server.await_final(ds.SeriesInstanceUID)
    shutil.copytree(server.state_directory, tmp_path / "state", ignore_dangling_symlinks=True)
    text = "".join(log.read_text(errors="replace") for log in (tmp_path / "state").glob("*.log"))
    assert text
    assert "SECRETPATIENT77" not in text
    assert "SECRETPATIENT77" not in server.log()
