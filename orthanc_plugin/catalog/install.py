"""Install models into `ModelsDirectory` and remove them: download published files, check their digests, convert them.

The first conversion of a file writes its digest into `.records.json` of that folder; later ones compare with it.
Downloads stay in `.downloads` until they are converted. The converter (`conversion.convert`, which needs torch) is
passed in; it installs a complete model or nothing.
"""

from __future__ import annotations

import fcntl
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from orthanc_plugin.catalog.card import NAME, ModelCard
from orthanc_plugin.catalog.download import Progress, download
from orthanc_plugin.catalog.reader import CARD, sha256_of
from orthanc_plugin.catalog.records import Record, RemoteFile
from orthanc_plugin.errors import ConfigError, ModelError

RECORDS = ".records.json"
DOWNLOADS = ".downloads"
LOCK = ".lock"

Converter = Callable[[Sequence[Path]], ModelCard]
"""Converts published files into a model in the models folder."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A published file as it was at its first installation."""

    sha256: str
    size: int
    date: str


_SEEN = TypeAdapter(dict[str, Seen])


def require_licence(record: Record, accepted: bool) -> None:
    """Refuse weights whose terms the user must accept and has not.

    Raises
    ------
    ConfigError
        Naming the licence and the option that accepts it.
    """
    licence = record.licence
    if licence.condition and not accepted:
        raise ConfigError(
            f"the weights of {record.name} are under {licence.identifier}, {licence.condition} ({licence.url});"
            " if you accept these terms, add --accept-licence"
        )


def install_record(
    record: Record,
    models_directory: Path,
    name: str,
    convert: Converter,
    *,
    accepted: bool,
    files: Sequence[Path] = (),
    replace: bool = False,
    progress: Progress,
) -> ModelCard:
    """Get the files of a record, check their digests and convert them.

    Parameters
    ----------
    record : Record
        What to install.
    models_directory : Path
        Created if it is missing.
    name : str
        Name of the model.
    convert : Converter
        Called with the files.
    accepted : bool
        Whether the user accepts the licence.
    files : sequence of Path
        The record's files, if the user has them already; otherwise they are downloaded.
    replace : bool
        Whether a model of this name may be replaced.
    progress : Progress
        Receives the progress of a download.

    Raises
    ------
    ConfigError
        If the licence is not accepted, the name is taken, or files do not match the record.
    ModelError
        If a file differs from the one that was installed before, or cannot be converted.
    TransientError
        If a download was interrupted.
    """
    require_licence(record, accepted)
    given = _given(record, files) if files else {}
    with _reserved(models_directory, name, replace):
        found = given or _fetched(record, models_directory / DOWNLOADS, progress)
        digests = _checked(record, found, models_directory)
        card = convert(tuple(found.values()))
        _remember(models_directory, digests)
        for path in () if given else found.values():
            path.unlink()
    return card


@contextmanager
def _reserved(models_directory: Path, name: str, replace: bool) -> Iterator[None]:
    """Lock the folder against other installations and check that the name is free, before any download."""
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"{name!r} is not a valid model name; use small letters, digits, _ and -, a letter first")
    if (models_directory / name).exists() and not replace:
        raise ConfigError(f"{models_directory / name} already exists; add --replace, or choose another --name")
    models_directory.mkdir(parents=True, exist_ok=True)
    with (models_directory / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another installation into {models_directory} is running; wait until it ends") from None
        yield


def require_installed(name: str, models_directory: Path) -> None:
    """Refuse to remove what is not an installed model.

    Raises
    ------
    ModelError
        If the folder has no model of this name (built-in models are elsewhere), or only a link to one.
    """
    folder = models_directory / name
    if not re.fullmatch(NAME, name) or not (folder / CARD).is_file():
        raise ModelError(
            f"{models_directory} has no model {name!r}; only models that were installed there can be removed;"
            " to stop using a built-in model, name other models in the rules"
        )
    if folder.is_symlink():
        raise ModelError(f"{folder} is a link; remove it where you made it")


def remove_model(name: str, models_directory: Path) -> None:
    """Remove a model from the models folder in one step.

    Raises
    ------
    ModelError
        See `require_installed`.
    """
    require_installed(name, models_directory)
    with tempfile.TemporaryDirectory(prefix=".removing-", dir=models_directory) as trash:
        (models_directory / name).rename(Path(trash) / name)


def _given(record: Record, files: Sequence[Path]) -> dict[str, Path]:
    """Match the user's files to the record's names; if the record has one file, its name does not matter."""
    wanted = [file.name for file in record.files]
    names = wanted if len(files) == len(wanted) == 1 else [path.name for path in files]
    if sorted(names) != sorted(wanted):
        raise ConfigError(f"{record.name} needs --file for each of: {', '.join(wanted)}")
    for path in files:
        if not path.is_file():
            raise ConfigError(f"{path} is not a file; pass the downloaded zip")
    by_name = dict(zip(names, files, strict=True))
    return {name: by_name[name] for name in wanted}


def _fetched(record: Record, downloads: Path, progress: Progress) -> dict[str, Path]:
    downloads.mkdir(exist_ok=True)
    return {file.name: _zip(file, download(file, downloads, progress)) for file in record.files}


def _zip(file: RemoteFile, path: Path) -> Path:
    """Return the path if it is a zip; delete anything else, for instance a maintenance page."""
    if not zipfile.is_zipfile(path):
        path.unlink()
        host = urlsplit(file.url).hostname
        raise ModelError(
            f"{host} sent something other than {file.name}; try again later, or download it yourself (--file)"
        )
    return path


def _checked(record: Record, found: Mapping[str, Path], models_directory: Path) -> dict[str, Seen]:
    """Hash the files; each must have the published digest and the recorded one, where there is one."""
    seen = _read_records(models_directory)
    today = date.today().isoformat()
    now = {name: Seen(sha256_of(path), path.stat().st_size, today) for name, path in found.items()}
    for file in record.files:
        digest, before = now[file.name].sha256, seen.get(file.name)
        if file.sha256 and digest != file.sha256:
            _forget(found[file.name], models_directory)
            raise ModelError(f"{file.name} has SHA-256 {digest}, its publisher states {file.sha256}; download it again")
        if before and digest != before.sha256:
            _forget(found[file.name], models_directory)
            raise ModelError(
                f"{file.name} has SHA-256 {digest}, on {before.date} it had {before.sha256}; ask its publisher what"
                f" changed, and remove its entry from {models_directory / RECORDS} if you trust the new file"
            )
    return {name: seen.get(name, entry) for name, entry in now.items()}


def _forget(path: Path, models_directory: Path) -> None:
    """Delete a refused download so that it is not resumed; keep a file of the user."""
    if path.parent == models_directory / DOWNLOADS:
        path.unlink()


def _read_records(models_directory: Path) -> dict[str, Seen]:
    path = models_directory / RECORDS
    if not path.is_file():
        return {}
    try:
        return _SEEN.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); restore or remove it") from error


def _remember(models_directory: Path, digests: Mapping[str, Seen]) -> None:
    records = {name: asdict(seen) for name, seen in ({**_read_records(models_directory), **digests}).items()}
    path = models_directory / RECORDS
    new = path.with_name(f"{RECORDS}.new")
    new.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    new.replace(path)
