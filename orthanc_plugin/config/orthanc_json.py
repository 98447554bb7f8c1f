"""orthanc.json as Orthanc reads it: comments, `${NAME}` of the environment, folders of files.

Variables are replaced in the text, before it is JSON: so Orthanc does it. Where a variable is not set, the text is
empty, and a note remembers its name for the error message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import json5

from orthanc_plugin.errors import ConfigError

JsonObject = dict[str, Any]

_VARIABLE = re.compile(r"""\$\{([^:}]+)(?::-(?:"([^"]*)"|'([^']*)'|([^}]*)))?\}""")
_UNSET = re.compile("\ue000([^\ue001]*)\ue001")  # marks where an unset variable was, until the keys are known


def _substitute(text: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, *defaults = match.groups()
        if name in environ:
            return environ[name]
        return next((default for default in defaults if default is not None), f"\ue000{name}\ue001")

    return _VARIABLE.sub(value, text)


def read_orthanc_json(path: Path, environ: Mapping[str, str]) -> tuple[JsonObject, dict[str, str]]:
    """The document in a file, or in a folder of `*.json` files.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files share no top-level key (subfolders are not read).
    environ : Mapping
        Values of `${NAME}`; an unset one is empty, `${NAME:-default}` has its default.

    Returns
    -------
    dict, dict
        The merged document; and for each key path with an unset variable a note that names the variable.

    Raises
    ------
    ConfigError
        If a file cannot be read, is no JSON, or two files have the same key.

    Source
    ------
    Orthanc, OrthancServer/Sources/OrthancConfiguration.cpp.
    """
    files = sorted(filter(_is_json_file, path.iterdir())) if path.is_dir() else [path]
    merged: JsonObject = {}
    for file in files:
        document = _read_file(file, environ)
        for key in document.keys() & merged.keys():
            raise ConfigError(f'{path}: the key "{key}" is in more than one file')
        merged |= document
    notes: dict[str, str] = {}
    return _without_marks(merged, "", notes), notes


def _is_json_file(path: Path) -> bool:
    return path.suffix.lower() == ".json" and not path.is_dir()


def _read_file(file: Path, environ: Mapping[str, str]) -> JsonObject:
    try:
        text = _substitute(file.read_text(encoding="utf-8"), environ)
        document = json5.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # its text may hold a piece of a password
        place = re.search(r":(\d+) .* column (\d+)", str(error), re.DOTALL)
        where = f" at line {place[1]}, column {place[2]}" if place else ""
        unset = sorted(set(_UNSET.findall(text)))
        hint = f"; environment variables that are not set: {', '.join(unset)}" if unset else ""
        raise ConfigError(f"{file}: is no JSON{where}{hint}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: is no JSON object")
    return document


def _without_marks(value: Any, path: str, notes: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(item, f"{path}.{key}".lstrip("."), notes) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_marks(item, f"{path}[{number}]", notes) for number, item in enumerate(value)]
    if isinstance(value, str) and (names := _UNSET.findall(value)):
        notes[path] = f"environment variable {', '.join(names)} is not set"
        return _UNSET.sub("", value)
    return value
