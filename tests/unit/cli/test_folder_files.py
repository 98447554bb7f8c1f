"""Every file of a folder is accounted for by `run` and `rules test`: in the text, in JSON and in the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, MediaStorageDirectoryStorage

from orthanc_plugin.cli import main as cli
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.support.cases.compressed import compressed
from tests.support.cases.hostile_folders import encoded, zeros

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")

PHANTOM = make_phantom((24, 16, 16), (5, 20, 20))


def files_of(seed: str, syntax: str = "") -> list[bytes]:
    instances = encode_phantom(PHANTOM, uid_seed=seed)
    for ds in instances if syntax else ():
        ds.file_meta.TransferSyntaxUID = syntax
    return [encoded(ds) for ds in instances]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one whole series, `whole-000` and so on."""
    (tmp_path / "ct").mkdir()
    for number, content in enumerate(files_of("whole")):
        (tmp_path / "ct" / f"whole-{number:03}").write_bytes(content)
    return tmp_path / "ct"


def deflated(damage: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    def change(_: list[bytes]) -> list[bytes]:
        files = files_of("other", DeflatedExplicitVRLittleEndian)
        return [damage(files[0]), *files[1:]]

    return change


def bomb(file: bytes) -> bytes:
    """A file whose deflated part unfolds to a gigabyte."""
    end = 132 + 12 + int.from_bytes(file[140:144], "little")
    return file[:end] + zeros(1024)


def nested(_: bytes) -> bytes:
    ds = encode_phantom(PHANTOM, uid_seed="other")[0]
    file = encoded(ds)
    begin = bytes.fromhex("4000 7502 5351 0000 ffffffff feff 00e0 ffffffff".replace(" ", ""))
    at = file.index(bytes.fromhex("e07f1000"))
    return file[:at] + begin * 5000 + file[at:]


def one_changed(damage: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda files: [damage(files[0]), *files[1:]]


def wrong_length(file: bytes) -> bytes:
    at = file.index(b"\x08\x00\x60\x00CS")  # Modality
    return file[: at + 6] + b"\xff\xff" + file[at + 8 :]


DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "twenty empty": lambda files: [*files[:4], *[b""] * 20],
    "one empty": one_changed(lambda file: b""),
    "cut in the header": one_changed(lambda file: file[:400]),
    "cut in the first line": one_changed(lambda file: file[:140]),
    "cut before the pixels": one_changed(lambda file: file[: len(file) - 16 * 16 * 2 - 13]),
    "zeros": one_changed(lambda file: bytes(len(file))),
    "wrong value length": one_changed(wrong_length),
    "deflated, damaged early": deflated(lambda f: f[:380] + b"\xff" * 20 + f[400:]),
    "deflated, damaged late": deflated(lambda f: f[:600] + b"\xff" * 20 + f[620:]),
    "deflated, cut": deflated(lambda f: f[:-40]),
    "deflated bomb": deflated(bomb),
    "nested without end": one_changed(nested),
}


def ask(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, list[dict[str, Any]]]:
    code = cli.main([*command, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", DAMAGES)
def test_unreadable_files_refuse_their_series_and_no_other(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, content in enumerate(DAMAGES[name](files_of("other"))):
        (folder / f"other_{number:03}.dcm").write_bytes(content)
    code, verdicts = ask(capsys, "rules", "test", str(folder))
    assert code == cli.EXIT_FAILED
    whole, other = sorted(verdicts, key=lambda verdict: bool(verdict["reason"]))
    assert whole["takes"] == "default"
    assert other["reason"] == "unreadable"
    assert other["detail"]
    assert other["unread"]["of_series"]


@pytest.mark.parametrize("command", [("inspect",), ("run", "--out", "out")], ids=" ".join)
def test_every_file_that_is_cut_in_its_pixels_is_named(
    command: tuple[str, ...], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted(folder.iterdir())[3:5]:
        file.write_bytes(file.read_bytes()[:-100])
    code, (told,) = ask(capsys, *(str(tmp_path / one) if one == "out" else one for one in command), str(folder))
    assert (code, told["reason"]) == (cli.EXIT_FAILED, "unreadable")
    assert [Path(file).name for file in told["unread"]["of_series"]] == ["whole-003", "whole-004"]


def test_other_files_are_named_and_refuse_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "README").write_text("about the export")
    (folder / ".DS_Store").write_bytes(bytes(range(256)))
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "empty").touch()
    code, (verdict,) = ask(capsys, "rules", "test", str(folder))
    assert code == cli.EXIT_DONE
    assert verdict["takes"] == "default"
    names = {Path(file).name for file in verdict["unread"]["passed_over"]}
    assert names == {"notes.txt", "README", ".DS_Store", "empty"}
    cli.main(["rules", "test", str(folder)])
    assert "4 file(s) of the folder are not DICOM instances" in capsys.readouterr().out


def test_a_dicomdir_belongs_to_no_series(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ds = encode_phantom(PHANTOM, uid_seed="other")[0]
    del ds.SeriesInstanceUID, ds.PixelData
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    (folder / "DIRFILE").write_bytes(encoded(ds))
    code, (verdict,) = ask(capsys, "rules", "test", str(folder))
    assert (code, verdict["takes"]) == (cli.EXIT_DONE, "default")
    assert [Path(file).name for file in verdict["unread"]["passed_over"]] == ["DIRFILE"]


def test_a_damaged_file_beside_no_series_is_named_and_told_by_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "deeper").mkdir()
    (folder / "deeper" / "cut").write_bytes(files_of("other")[0][:300])
    code, (verdict,) = ask(capsys, "rules", "test", str(folder))
    assert code == cli.EXIT_FAILED
    assert verdict["takes"] == "default"
    assert [Path(file).name for file in verdict["unread"]["damaged"]] == ["cut"]


@pytest.mark.parametrize("begin", [132, None], ids=["with meta information", "bare"])
def test_files_without_preamble_are_read(begin: int | None, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in folder.iterdir():
        content = file.read_bytes()
        start = begin or 132 + 12 + int.from_bytes(content[140:144], "little")
        file.write_bytes(content[start:])
    code, (verdict,) = ask(capsys, "rules", "test", str(folder))
    assert (code, verdict["takes"]) == (cli.EXIT_DONE, "default")
    assert verdict["unread"] == {"of_series": [], "damaged": [], "passed_over": []}


@pytest.mark.parametrize("begin", [132, None], ids=["with meta information", "bare"])
def test_compressed_files_without_preamble_are_read_or_refused_with_the_true_cause(
    begin: int | None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, ds in zip(sorted(folder.iterdir()), encode_phantom(PHANTOM, uid_seed="whole"), strict=True):
        content = encoded(compressed(ds, JPEGLSLossless))
        file.write_bytes(content[begin or 132 + 12 + int.from_bytes(content[140:144], "little") :])
    _, (inspection,) = ask(capsys, "inspect", str(folder))
    (pixels,) = [step for step in inspection["steps"] if step["step"] == "pixels"]
    if begin:
        assert pixels["state"] in ("passed", "noted")
    else:
        assert (pixels["reason"], inspection["would"]) == ("unreadable", "skip")
        assert "compressed, but the file does not say how" in pixels["detail"]
        assert "with preamble" in pixels["detail"]


@pytest.mark.parametrize("command", [("rules", "test"), ("inspect",), ("run", "--out", "out")], ids=" ".join)
@pytest.mark.parametrize("name", ["image.dcm", "image", "IM.IMA"])
def test_a_folder_of_one_empty_file_holds_no_series(
    name: str, command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / name).touch()
    assert cli.main([*command, str(tmp_path / "ct")]) == cli.EXIT_CONFIG
    told = " ".join(capsys.readouterr().err.split())
    assert "holds no DICOM series; 1" in told
    assert ("empty or cannot be read" in told) == (name != "image")


@pytest.mark.parametrize("command", [("rules", "test"), ("inspect",), ("run", "--out", "out")], ids=" ".join)
def test_an_empty_image_beside_no_series_is_told_by_the_exit_code(
    command: tuple[str, ...], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "deeper").mkdir()
    (folder / "deeper" / "image.dcm").touch()
    options = [str(tmp_path / one) if one == "out" else one for one in command]
    code, (told,) = ask(capsys, *options, str(folder))
    assert code == cli.EXIT_FAILED
    assert [Path(file).name for file in told["unread"]["damaged"]] == ["image.dcm"]


def test_run_tells_the_same(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in sorted(folder.iterdir())[:2]:
        file.write_bytes(b"")
    code, (outcome,) = ask(capsys, "run", str(folder), "--out", str(tmp_path / "out"))
    assert (code, outcome["state"], outcome["reason"]) == (cli.EXIT_FAILED, "skipped", "unreadable")
    assert "2 file(s)" in outcome["detail"]
    assert [Path(file).name for file in outcome["unread"]["of_series"]] == ["whole-000", "whole-001"]
    cli.main(["run", str(folder), "--out", str(tmp_path / "out")])
    assert "whole-001" in capsys.readouterr().out
