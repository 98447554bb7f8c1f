"""Installing OHIF: only the pinned archive, whole or not at all, and nothing outside the folder."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orthanc_plugin.cli.main import main
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.service import ohif_package
from tests.support.servers.file_server import FileServer, serving

Trust = Callable[[Path], Path]

CONTENT = {
    "package/package.json": json.dumps({"name": "@ohif/app", "version": ohif_package.VERSION}).encode(),
    "package/LICENSE": b"MIT",
    "package/README.md": b"read me",
    "package/dist/index.html": b"<!doctype html><script>1</script>",
    "package/dist/app.js": b"let x = 1;\n" * 500,
    "package/dist/app.js.map": b"{}",
    "package/dist/assets/a.png": b"\x89PNG",
    "package/dist/ort/ort.wasm": b"\0asm",
}


def silent(name: str, done: int, total: int | None) -> None:
    """Show nothing."""


def pack(path: Path, content: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in more:
            tar.addfile(info)
    return path


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Trust:
    """Pins an archive that a test made."""

    def trust(archive: Path) -> Path:
        digest = hashlib.sha512(archive.read_bytes()).digest()
        monkeypatch.setattr(ohif_package, "INTEGRITY", f"sha512-{base64.b64encode(digest).decode()}")
        monkeypatch.setattr(ohif_package, "ARCHIVE_BYTES", archive.stat().st_size)
        return archive

    return trust


def test_an_archive_is_unpacked_without_what_nobody_needs(tmp_path: Path, trusted: Trust) -> None:
    archive = trusted(pack(tmp_path / "a.tgz", CONTENT))
    assert ohif_package.install(archive, tmp_path / "ohif", silent) == 5
    dist = tmp_path / "ohif" / "dist"
    names = {path.relative_to(dist).as_posix() for path in dist.rglob("*") if path.is_file()}
    assert names == {"index.html", "app.js", "app.js.gz", "assets/a.png"}
    assert gzip.decompress((dist / "app.js.gz").read_bytes()) == CONTENT["package/dist/app.js"]
    assert ohif_package.installed_version(tmp_path / "ohif") == ohif_package.VERSION
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "ohif"}


def test_what_root_installs_others_can_read(tmp_path: Path, trusted: Trust) -> None:
    before = os.umask(0o077)
    try:
        ohif_package.install(trusted(pack(tmp_path / "a.tgz", CONTENT)), tmp_path / "ohif", silent)
    finally:
        os.umask(before)
    assert (tmp_path / "ohif/dist").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "ohif/dist/app.js.gz").stat().st_mode & 0o777 == 0o644


def test_another_archive_is_refused_and_what_is_installed_stays(tmp_path: Path, trusted: Trust) -> None:
    ohif_package.install(trusted(pack(tmp_path / "a.tgz", CONTENT)), tmp_path / "ohif", silent)
    other = pack(tmp_path / "b.tgz", CONTENT | {"package/dist/app.js": b"stolen()"})
    with pytest.raises(ConfigError, match="SHA-512 differs"):
        ohif_package.install(other, tmp_path / "ohif", silent)
    assert (tmp_path / "ohif/dist/app.js").read_bytes() == CONTENT["package/dist/app.js"]


def test_an_installation_takes_the_place_of_an_earlier_one(tmp_path: Path, trusted: Trust) -> None:
    ohif_package.install(trusted(pack(tmp_path / "a.tgz", CONTENT)), tmp_path / "ohif", silent)
    (tmp_path / "ohif/dist/old.js").write_text("old")
    ohif_package.install(tmp_path / "a.tgz", tmp_path / "ohif", silent)
    assert not (tmp_path / "ohif/dist/old.js").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, trusted: Trust) -> None:
    """Even one with an OHIF in it: it may be somebody's own build."""
    own = tmp_path / "own"
    (own / "dist").mkdir(parents=True)
    (own / "dist/index.html").touch()
    (own / "package.json").write_text('{"version": "3.14.0"}')
    with pytest.raises(ConfigError, match="did not install"):
        ohif_package.install(trusted(pack(tmp_path / "a.tgz", CONTENT)), own, silent)
    assert ohif_package.installed_version(own) == "3.14.0"


@pytest.mark.parametrize("name", ["package/../../evil.js", "/etc/evil.js", "package/dist/..\\evil.js"])
def test_a_name_that_leads_out_leaves_nothing_behind(tmp_path: Path, trusted: Trust, name: str) -> None:
    archive = trusted(pack(tmp_path / "a.tgz", CONTENT | {name: b"x"}))
    with pytest.raises(ConfigError, match="leads out"):
        ohif_package.install(archive, tmp_path / "deep" / "ohif", silent)
    assert list((tmp_path / "deep").iterdir()) == []


def test_links_and_devices_stay_in_the_archive(tmp_path: Path, trusted: Trust) -> None:
    link, device = tarfile.TarInfo("package/dist/link.js"), tarfile.TarInfo("package/dist/device.js")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    archive = trusted(pack(tmp_path / "a.tgz", CONTENT, link, device))
    ohif_package.install(archive, tmp_path / "ohif", silent)
    assert not any("link" in path.name or "device" in path.name for path in (tmp_path / "ohif").rglob("*"))


def test_an_archive_that_is_cut_off_leaves_nothing_behind(tmp_path: Path, trusted: Trust) -> None:
    whole = pack(tmp_path / "a.tgz", CONTENT).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        ohif_package.install(trusted(tmp_path / "cut.tgz"), tmp_path / "ohif", silent)
    assert not (tmp_path / "ohif").exists()


@pytest.mark.parametrize(
    ("version", "supported"),
    [("3.13.2", True), ("3.13.0-beta.1", True), ("4.0.0", True), ("3.9.3", False), ("2.12.1", False), ("new", False)],
)
def test_a_minimum_version(version: str, supported: bool) -> None:
    assert ohif_package.is_supported(version) is supported


def test_the_command_downloads_from_the_registry_that_npm_uses(
    tmp_path: Path, trusted: Trust, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = trusted(pack(tmp_path / "a.tgz", CONTENT))
    with serving(FileServer(archive.read_bytes())) as server:
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.port}/")
        directory = tmp_path / "place" / "ohif"
        assert main(["ohif", "install", "--directory", str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == ohif_package.VERSION
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["ohif"]
    assert main(["ohif", "install", "--directory", str(directory), "--if-missing"]) == 0


def test_the_command_takes_a_file_and_leaves_it(tmp_path: Path, trusted: Trust) -> None:
    archive = trusted(pack(tmp_path / "a.tgz", CONTENT))
    assert main(["ohif", "install", "--file", str(archive), "--directory", str(tmp_path / "ohif")]) == 0
    assert archive.exists()
    assert main(["ohif", "install", "--file", str(tmp_path / "none.tgz"), "--directory", str(tmp_path / "ohif")]) == 1
