"""A folder as an archive: it finds files by content, groups them by series and gives results readable names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orthanc_plugin.archive import folder, part10
from orthanc_plugin.archive.folder import FolderArchive
from orthanc_plugin.errors import InputError, Refusal, StoreError
from tests.support.fakes.memory_archive import ct_series, ct_slice


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "ct"
    (folder / "deeper").mkdir(parents=True)
    for number, ds in enumerate([*ct_series(3), *ct_series(2, series="1.2.4")]):
        ds.save_as(folder / "deeper" / f"IM{number}", enforce_file_format=True)
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "empty").touch()
    return folder


def test_files_are_grouped_by_series_and_others_counted(source: Path, tmp_path: Path) -> None:
    archive = FolderArchive(source, tmp_path / "out")
    assert [(s.series_instance_uid, len(s.files), s.modality) for s in archive.series] == [
        ("1.2.3", 3, "CT"),
        ("1.2.4", 2, "CT"),
    ]
    assert {file.name for file in archive.skipped} == {"notes.txt", "empty"}
    assert archive.same_series_studies("1.2.3") == (("1.2", "P1"),)
    assert archive.ct_series("1.2") == ("1.2.3", "1.2.4")
    assert archive.ct_series("1.9") == ()


def test_series_with_masks_are_listed(source: Path, tmp_path: Path) -> None:
    masks = [*ct_series(1, series="1.2.5", modality="SEG"), *ct_series(1, series="1.2.6", modality="RTSTRUCT")]
    for ds in (*masks, *ct_series(1, series="1.2.7", modality="SR")):
        ds.SOPInstanceUID += ds.SeriesInstanceUID[-1]
        ds.save_as(source / str(ds.SeriesInstanceUID), enforce_file_format=True)
    archive = FolderArchive(source, tmp_path / "out")
    assert archive.mask_series("1.2") == ("1.2.5", "1.2.6")
    assert archive.mask_series("1.9") == ()


def test_headers_and_instances_are_read(source: Path, tmp_path: Path) -> None:
    archive = FolderArchive(source, tmp_path / "out")
    assert len(archive.headers("1.2", "1.2.3")) == 3
    assert [ds.PixelData for ds in archive.retrieve("1.2", "1.2.4")] == [bytes(128)] * 2
    assert archive.headers("1.2", "9.9") == ()
    with pytest.raises(InputError) as refusal:
        list(archive.retrieve("1.2", "9.9"))
    assert refusal.value.reason is Refusal.GONE


@pytest.mark.parametrize("most", [5, 4, 0])
def test_headers_are_read_once_while_few_are_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    read = list[Path]()

    def count(file: Path, **options: bool) -> Dataset:
        read.append(file)
        return part10.read_instance(file, **options)

    archive = FolderArchive(source, tmp_path / "out")
    monkeypatch.setattr(folder, "_MOST_HEADERS", most)
    monkeypatch.setattr(folder, "read_instance", count)
    for series, files in [("1.2.3", 3), ("1.2.3", 3), ("1.2.4", 2), ("1.2.4", 2), ("1.2.3", 3)]:
        assert len(archive.headers("1.2", series)) == files
    assert len(read) == {5: 3 + 2, 4: 3 + 2 + 3, 0: 3 + 3 + 2 + 2 + 3}[most]


def test_a_file_that_is_gone_has_no_kept_header(source: Path, tmp_path: Path) -> None:
    """Headers are those of the files as the folder was opened; reading the series itself tells the difference."""
    archive = FolderArchive(source, tmp_path / "out")
    assert len(archive.headers("1.2", "1.2.3")) == 3
    (source / "deeper" / "IM0").unlink()
    with pytest.raises(InputError) as refusal:
        list(archive.retrieve("1.2", "1.2.3"))
    assert refusal.value.reason is Refusal.UNREADABLE


def test_results_get_readable_names_and_come_back(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    archive = FolderArchive(source, out)
    for number in (1, 2):
        ds = ct_slice(number, series=f"1.7.{number}")
        ds.SeriesDescription = "AI research: chest structures"
        archive.store(ds)
        assert archive.find("1.2", f"1.7.{number}", str(ds.SOPInstanceUID)) == ds
    assert sorted(file.name for file in out.iterdir()) == [
        "ai-research-chest-structures-2.dcm",
        "ai-research-chest-structures.dcm",
    ]


def test_the_first_object_of_a_uid_stays(source: Path, tmp_path: Path) -> None:
    first, second = ct_slice(1), ct_slice(1)
    second.PixelData = bytes([1]) * 128
    FolderArchive(source, tmp_path / "out").store(first)
    again = FolderArchive(source, tmp_path / "out")
    again.store(second)
    found = again.find("1.2", "1.2.3", "1.2.3.1")
    assert found is not None
    assert found.PixelData == first.PixelData


def test_an_out_folder_may_hold_files_that_are_no_objects(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "empty.dcm").touch()
    (out / "noise.dcm").write_bytes(bytes(range(256)))
    (out / "folder.dcm").mkdir()
    archive = FolderArchive(source, out)
    archive.store(ct_slice(1, series="1.7"))
    assert archive.find("1.2", "1.7", "1.7.1") is not None


def test_an_out_folder_that_cannot_be_made_is_a_store_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        FolderArchive(source, tmp_path / "file" / "out").store(ct_slice(1))


def test_a_large_file_of_another_kind_is_no_damaged_dicom_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "all.zip").write_bytes(b"PK" + bytes(200_000))
    monkeypatch.setattr(part10, "LARGEST_FILE_BYTES", 100_000)
    archive = FolderArchive(source, tmp_path / "out")
    assert "all.zip" in {file.name for file in archive.skipped}
    assert len(archive.headers("1.2", "1.2.3")) == 3
