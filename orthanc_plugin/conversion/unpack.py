"""Give published weights as a folder: use a folder as it is, extract a zip into a temporary one.

Both are untrusted. Before anything is written, a zip is refused if a member would leave the folder, is a link or a
device, or unpacks to far more than its own size. A folder is refused if its links lead out of it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from orthanc_plugin.errors import ConfigError, ModelError

MOST_BYTES = 50 * 2**30
"""Ten times a complete v1 task: 4 configurations x 5 folds x 250 MB."""

MOST_MEMBERS = 100_000
"""A results folder with the validation images of all folds has a few thousand."""

MOST_RATIO = 100
"""Weights compress by less than 2:1 and logs by up to 50:1; only zip bombs reach 1000:1."""

_RATIO_FROM_BYTES = 2**20
_DRIVE = re.compile(r"^[A-Za-z]:")


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Give a folder with the published files, and remove extracted files at the end in any case.

    Parameters
    ----------
    source : Path
        A folder or a zip file.

    Raises
    ------
    ModelError
        If there is no such file, or it is not safe to unpack; the message names the member.
    ConfigError
        If the disk is too full to extract it.
    """
    if source.is_dir():
        _refuse_links_out(source)
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="enrich-convert-") as folder:
        extracted = Path(folder).resolve()
        _extract(source, extracted)
        try:
            yield extracted
        except ModelError as error:
            # The user knows the zip, not the folder it was extracted to.
            raise ModelError(str(error).replace(str(extracted), str(source))) from error


def _refuse_links_out(folder: Path) -> None:
    root, count = folder.resolve(), 0
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            count += 1
            if count > MOST_MEMBERS:
                raise ModelError(f"{folder} holds more than {MOST_MEMBERS} files; name the folder of one model")
            target = path.resolve()
            if not target.is_relative_to(root):
                raise ModelError(
                    f"{path} is a link that leaves the folder; replace it by a copy of its target, or remove it"
                )
            if not (target.is_file() or target.is_dir()):
                raise ModelError(f"{path} is neither a file nor a folder; remove it")


def _extract(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            _check(archive.infolist(), source, folder)
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{source} is not a readable zip file ({type(error).__name__}); download it again") from error
    except OSError as error:
        raise ModelError(f"{source} cannot be unpacked ({error.strerror or error}); check the path") from error


def _check(members: list[zipfile.ZipInfo], source: Path, folder: Path) -> None:
    if len(members) > MOST_MEMBERS:
        raise ModelError(
            f"{source} has {len(members)} members, at most {MOST_MEMBERS} are allowed; it is not an nnU-Net model"
        )
    for member in members:
        if why := _danger(member):
            raise ModelError(f"{source}: member {member.filename!r} {why}; get the file from its publisher")
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES:
        raise ModelError(f"{source} unpacks to {total / 2**30:.0f} GiB, at most {MOST_BYTES // 2**30} are allowed")
    if total > shutil.disk_usage(folder).free:
        raise ConfigError(
            f"{source} needs {total / 2**30:.1f} GiB to unpack; free some space, or set TMPDIR to another disk"
        )


def _danger(member: zipfile.ZipInfo) -> str | None:
    """Say why a member must not be extracted; None if it may be."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name or "\0" in name:
        return "has an absolute or foreign path"
    if ".." in PurePosixPath(name).parts:
        return "leaves the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.file_size > max(_RATIO_FROM_BYTES, MOST_RATIO * member.compress_size):
        return f"unpacks to more than {MOST_RATIO} times its size"
    return None
