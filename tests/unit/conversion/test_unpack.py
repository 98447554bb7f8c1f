"""Untrusted zips and folders: nothing is written outside, nothing large is unpacked, nothing stays behind."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from orthanc_plugin.conversion import unpack
from orthanc_plugin.conversion.unpack import unpacked
from orthanc_plugin.errors import ConfigError, ModelError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zipped(path: Path, *members: zipfile.ZipInfo | str, content: bytes = b"weights") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, content)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


def test_a_zip_is_a_folder_while_it_is_used_and_gone_afterwards(tmp_path: Path, temporary: Path) -> None:
    source = zipped(tmp_path / "model.zip", "nnUNet/plans.pkl", "nnUNet/fold_0/model")
    with unpacked(source) as folder:
        assert (folder / "nnUNet/fold_0/model").read_bytes() == b"weights"
        assert folder.is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_what_was_extracted_goes_when_its_use_fails(tmp_path: Path, temporary: Path) -> None:
    with pytest.raises(RuntimeError, match="of the caller"), unpacked(zipped(tmp_path / "model.zip", "a")):
        raise RuntimeError("of the caller")
    assert list(temporary.iterdir()) == []


def test_errors_name_the_zip_not_where_it_was_extracted(tmp_path: Path, temporary: Path) -> None:
    source = zipped(tmp_path / "model.zip", "nnUNet/plans.pkl")
    with pytest.raises(ModelError) as error, unpacked(source) as folder:
        raise ModelError(f"{folder / 'nnUNet/plans.pkl'} is damaged")
    assert str(error.value) == f"{source}/nnUNet/plans.pkl is damaged"


def test_a_folder_is_taken_as_it_is(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "model").mkdir()
    with unpacked(tmp_path / "model") as folder:
        assert folder == tmp_path / "model"
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "absolute"),
        ("../outside", "leaves the folder"),
        ("nnUNet/../../outside", "leaves the folder"),
        ("nnUNet/..", "leaves the folder"),
        ("C:/Windows/outside", "foreign path"),
        ("c:outside", "foreign path"),
        ("..\\outside", "foreign path"),
        ("\\\\server\\share", "foreign path"),
    ],
)
def test_members_that_would_leave_the_folder_are_refused(name: str, why: str, tmp_path: Path, temporary: Path) -> None:
    source = zipped(tmp_path / "model.zip", "good", name)
    with pytest.raises(ModelError, match=why) as error, unpacked(source):
        pytest.fail("was unpacked")
    assert repr(name) in str(error.value)
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    source = zipped(tmp_path / "model.zip", special("fold_0", kind), content=b"/etc")
    with pytest.raises(ModelError, match="'fold_0' is a link or a device"), unpacked(source):
        pytest.fail("was unpacked")


def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    bomb = zipped(tmp_path / "bomb.zip", "fold_0", content=bytes(2 * 2**20))
    with pytest.raises(ModelError, match="'fold_0' unpacks to more than 100 times"), unpacked(bomb):
        pytest.fail("was unpacked")
    monkeypatch.setattr(unpack, "MOST_BYTES", 10)
    with pytest.raises(ModelError, match="unpacks to"), unpacked(zipped(tmp_path / "big.zip", "a", "b")):
        pytest.fail("was unpacked")
    assert list(temporary.iterdir()) == []


def test_too_many_members_and_too_little_room_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = zipped(tmp_path / "model.zip", "a", "b", "c")
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(ConfigError, match="TMPDIR"), unpacked(source):
        pytest.fail("was unpacked")
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 2)
    with pytest.raises(ModelError, match="3 members"), unpacked(source):
        pytest.fail("was unpacked")


def test_a_damaged_or_missing_zip_is_named(tmp_path: Path) -> None:
    source = zipped(tmp_path / "model.zip", "a", content=os.urandom(1000))
    source.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"model\.zip is not a readable zip"), unpacked(source):
        pytest.fail("was unpacked")
    changed = bytearray(zipped(tmp_path / "bits.zip", "a", content=os.urandom(1000)).read_bytes())
    changed[300] ^= 255
    (tmp_path / "bits.zip").write_bytes(changed)
    with pytest.raises(ModelError, match=r"bits\.zip is not a readable zip"), unpacked(tmp_path / "bits.zip"):
        pytest.fail("was unpacked")
    with pytest.raises(ModelError, match=r"none\.zip cannot be unpacked"), unpacked(tmp_path / "none.zip"):
        pytest.fail("was unpacked")


def test_links_of_a_folder_may_stay_within_it_and_not_leave_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_1").symlink_to("fold_0", target_is_directory=True)
    with unpacked(folder):
        pass
    (folder / "fold_2").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ModelError, match="fold_2 is a link that leaves"), unpacked(folder):
        pytest.fail("was taken")
    (folder / "fold_2").unlink()
    os.mkfifo(folder / "plans.pkl")
    with pytest.raises(ModelError, match=r"plans\.pkl is neither a file nor a folder"), unpacked(folder):
        pytest.fail("was taken")
