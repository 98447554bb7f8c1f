"""orthanc.json as Orthanc reads it: comments, trailing commas, `${NAME}` of the environment, folders of files.

Like Orthanc, this module replaces variables in the text before it parses the JSON. An unset variable becomes an empty
text, and a note keeps its name for the error message.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from orthanc_plugin.errors import ConfigError

JsonObject = dict[str, Any]

_VARIABLE = re.compile(r"""\$\{([^:}]+)(?::-(?:"([^"]*)"|'([^']*)'|([^}]*)))?\}""")
_UNSET = re.compile("\ue000([^\ue001]*)\ue001")  # marks the place of an unset variable until its key is known
_TWICE = "\ue002"  # in an object, the name of a key that it has twice
_SECTION = "Enrichment"
_COMMENT = r"//[^\n]*|/\*.*?\*/"
_TEXT_OR_EXTRA = re.compile(rf'("(?:[^"\\]|\\.)*")|{_COMMENT}|,(?=(?>\s|{_COMMENT})*+[}}\]])', re.DOTALL)


def read_orthanc_json(path: Path, environ: Mapping[str, str]) -> tuple[JsonObject, dict[str, str]]:
    """Read the document in a file, or in a folder of `*.json` files.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files share no top-level key. Subfolders are not read.
    environ : Mapping
        Values of `${NAME}`. An unset variable is empty; `${NAME:-default}` has a default.

    Returns
    -------
    dict, dict
        The merged document, and a note for each key path with an unset variable that names the variable.

    Raises
    ------
    ConfigError
        If a file cannot be read or is not valid JSON, if two files have the same key, or if the section Enrichment, or
        an object in it, has a key twice. Orthanc lets the last one win, and so it stays elsewhere.

    Source
    ------
    Orthanc, OrthancServer/Sources/OrthancConfiguration.cpp.
    """
    files = sorted(filter(_is_json_file, path.iterdir())) if path.is_dir() else [path]
    merged: JsonObject = {}
    for file in files:
        document = _read_file(file, environ)
        for key in document.keys() & merged.keys() - {_TWICE}:
            raise ConfigError(f'{path}: the key "{key}" is in more than one file')
        merged |= document
    notes: dict[str, str] = {}
    return _without_marks(merged, "", notes), notes


def parse_json(text: str) -> Any:
    """Parse JSON as Orthanc does: with comments, trailing commas, and line breaks in texts; no NaN.

    Raises
    ------
    ValueError
        If the text is not valid JSON.
    """
    return json.loads(without_comments(text), strict=False, parse_constant=_refuse_constant)


def _pairs(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        found[_TWICE] = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return found


def without_comments(text: str) -> str:
    """Put blanks in the place of comments and trailing commas; everything else stays where it is."""
    return _TEXT_OR_EXTRA.sub(lambda match: match[1] or re.sub(r"[^\n]", " ", match[0]), text)


def extra_commas(text: str) -> list[int]:
    """Return the places of the commas that nothing follows in their object or list."""
    return [match.start() for match in _TEXT_OR_EXTRA.finditer(text) if match[0] == ","]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _is_json_file(path: Path) -> bool:
    return path.suffix.lower() == ".json" and not path.is_dir()


def _read_file(file: Path, environ: Mapping[str, str]) -> JsonObject:
    try:
        text = _substitute(file.read_text(encoding="utf-8"), environ)
        document = json.loads(
            without_comments(text), strict=False, parse_constant=_refuse_constant, object_pairs_hook=_pairs
        )
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8") from None
    except ValueError as error:  # its text may hold a piece of a password
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        unset = sorted(set(_UNSET.findall(text)))
        hint = f"; environment variables that are not set: {', '.join(unset)}" if unset else ""
        raise ConfigError(f"{file}: is not valid JSON{where}{hint}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: is not a JSON object")
    return document


def _substitute(text: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, *defaults = match.groups()
        if name in environ:
            return environ[name]
        return next((default for default in defaults if default is not None), f"\ue000{name}\ue001")

    return _VARIABLE.sub(value, text)


def _without_marks(value: Any, path: str, notes: dict[str, str]) -> Any:
    if isinstance(value, dict):
        twice = value.pop(_TWICE, None)
        if twice is not None and (twice == _SECTION or path.partition(".")[0] == _SECTION):
            raise ConfigError(f"{path}.{twice}: is written twice; keep one of the two".lstrip("."))
        return {key: _without_marks(item, f"{path}.{key}".lstrip("."), notes) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_marks(item, f"{path}[{number}]", notes) for number, item in enumerate(value)]
    if isinstance(value, str) and (names := _UNSET.findall(value)):
        notes[path] = f"environment variable {', '.join(names)} is not set"
        return _UNSET.sub("", value)
    return value
