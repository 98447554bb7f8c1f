"""OHIF as published on the npm registry: which release is installed, and how it comes onto this computer.

One release is pinned by its digest. Of its 204 MB a third is unpacked: the ONNX runtime for the browser (`ort`) and
the source maps serve tools that this project does not offer. Texts are also kept compressed, as the service sends them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from orthanc_plugin.catalog.download import Progress, download
from orthanc_plugin.catalog.records import RemoteFile
from orthanc_plugin.errors import ConfigError

VERSION = "3.13.2"
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
"""As the registry states it for this release."""
ARCHIVE_BYTES = 49_906_651
MINIMUM = (3, 13)
"""Older releases scramble or refuse label maps (docs/viewer.md)."""
REGISTRY = "https://registry.npmjs.org"

DIST = "dist"
MARKER = "installed-by-orthanc-enrich"
"""Only a folder with this file is replaced: another may hold somebody's own OHIF."""
COMPRESSED = ".gz"
_LEFT_OUT = ("dist/ort/",)
_LEFT_OUT_ENDS = (".map",)
_BESIDES = ("package.json", "LICENSE")
_TEXTS = {".js", ".css", ".wasm", ".json", ".svg", ".html"}
_LARGEST_FILE = 100_000_000


def default_directory() -> Path:
    """Return where OHIF lies if `Viewer.Directory` does not say: in the environment that this program runs from."""
    return Path(sys.prefix) / "share" / "orthanc-enrichment" / "ohif"


def installed_version(directory: Path) -> str:
    """Return the version of the OHIF in a folder; empty if there is none."""
    if not (directory / DIST / "index.html").is_file():
        return ""
    try:
        version = json.loads((directory / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return version if isinstance(version, str) else ""


def is_supported(version: str) -> bool:
    """Tell whether results are shown right by this version of OHIF."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= MINIMUM


def download_and_install(registry: str, directory: Path, progress: Progress) -> int:
    """Download the pinned release from an npm registry, or the rest of it, and install it.

    What was received stays beside the folder until the download is complete.

    Raises
    ------
    ConfigError
        If the address of the registry is not safe, if the disk is full, or as `install`.
    ModelError
        If the registry does not have the release.
    TransientError
        If there is no network; the next call resumes the download.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    url = f"{registry.rstrip('/')}/@ohif/app/-/app-{VERSION}.tgz"
    file = RemoteFile(f"ohif-app-{VERSION}.tgz", url, size=ARCHIVE_BYTES)
    archive = download(file, directory.parent, progress, pause=lambda _: time.sleep(1))
    try:
        return install(archive, directory, progress)
    finally:
        archive.unlink()


def install(archive: Path, directory: Path, progress: Progress) -> int:
    """Unpack the pinned release into a folder, in place of what an earlier installation left there.

    The folder is complete or as it was: files are unpacked beside it, and then it is exchanged.

    Returns
    -------
    int
        Number of files that were unpacked.

    Raises
    ------
    ConfigError
        If the archive is not the pinned release, if it holds a name that leads out of the folder, or if the folder
        holds anything that this function did not put there.
    """
    check_digest(archive)
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise ConfigError(f"{directory} holds files that this command did not install; name another with --directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _exchanged(directory) as new:
        return _unpack(archive, new, progress)


def check_digest(archive: Path) -> None:
    """Raise ConfigError unless a file is the pinned release."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise ConfigError(
            f"{archive.name} is not OHIF {VERSION} as published: its SHA-512 differs. Download"
            f" @ohif/app {VERSION} again (npm pack @ohif/app@{VERSION})"
        )


@contextmanager
def _exchanged(directory: Path) -> Iterator[Path]:
    """Give a new folder that takes the place of `directory` at the end, and is removed on an error."""
    new, old = (directory.with_name(f"{directory.name}.{word}-{os.getpid()}") for word in ("new", "old"))
    try:
        new.mkdir()
        (new / MARKER).touch()
        yield new
        _open_to_all(new)
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    """Let Orthanc's user read what root installs, whatever root's umask."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _unpack(archive: Path, folder: Path, progress: Progress) -> int:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = [(member, name) for member in tar if (name := _wanted(member))]
            total = sum(member.size for member, _ in members)
            done = 0
            for member, name in members:
                _write(tar, member, folder / name)
                done += member.size
                progress(f"OHIF {VERSION}", done, total)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise ConfigError(f"{archive.name} cannot be unpacked ({type(error).__name__})") from error
    return len(members)


def _wanted(member: tarfile.TarInfo) -> str:
    """Return the name of a file below the folder; empty for what stays packed.

    Only plain files are unpacked, without their modes, so no link and no device can come out of an archive.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise ConfigError("the archive holds a name that leads out of its folder")
    name = path.relative_to("package").as_posix() if path.parts[:1] == ("package",) else ""
    if not member.isreg() or member.size > _LARGEST_FILE or name.startswith(_LEFT_OUT) or name.endswith(_LEFT_OUT_ENDS):
        return ""
    return name if name in _BESIDES or name.startswith(f"{DIST}/") else ""


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise ConfigError("the archive holds a file without content")
    content = source.read()
    path.write_bytes(content)
    if path.suffix in _TEXTS:
        compressed = gzip.compress(content, 6, mtime=0)
        if len(compressed) < len(content):
            path.with_name(path.name + COMPRESSED).write_bytes(compressed)
