"""Overrides from the environment, such as ENRICHMENT__ARCHIVES__LOCAL__PASSWORD; lists and objects as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_origin

from pydantic import SecretStr

from orthanc_plugin.config.orthanc_json import JsonObject
from orthanc_plugin.config.schema import fields, model_in
from orthanc_plugin.config.sections import SECTION, Configuration
from orthanc_plugin.errors import ConfigError

ENVIRONMENT_PREFIX = "ENRICHMENT__"


def override(section: JsonObject, environ: Mapping[str, str]) -> tuple[JsonObject, dict[str, str]]:
    """Put the values of the environment into the section.

    Returns
    -------
    dict, dict
        The new section, and a note for each overridden key path that names the variable.

    Raises
    ------
    ConfigError
        If a variable matches no key.
    """
    notes = {}
    for name in sorted(environ):
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        keys, is_text = _keys_of(name[len(ENVIRONMENT_PREFIX) :].split("__"), section)
        if not keys:
            raise ConfigError(f"environment variable {name}: no key in {SECTION} has this name")
        section = _with_value(section, keys, environ[name] if is_text else _from_json(environ[name]))
        notes[".".join([SECTION, *keys])] = f"from environment variable {name}"
    return section, notes


def _keys_of(parts: Sequence[str], section: JsonObject) -> tuple[tuple[str, ...], bool]:
    """Return the keys that a variable name means (none if there is no such key), and whether the value is a text."""
    model: type[Any] | None = Configuration
    keys: list[str] = []
    rest = list(parts)
    annotation: object = None
    while rest:
        known = fields(model)
        key = _same_name(rest.pop(0), known)
        if key is None:
            return (), False
        keys.append(key)
        annotation = known[key].annotation
        if get_origin(annotation) is dict and rest:
            named = section.get(key)
            keys.append(_same_name(rest[0], named if isinstance(named, dict) else ()) or rest[0].lower())
            del rest[0]
        model = None if get_origin(annotation) is tuple else model_in(annotation)
    return tuple(keys), annotation in (str, SecretStr)


def _same_name(part: str, names: Iterable[str]) -> str | None:
    def squashed(name: str) -> str:
        return re.sub("[_-]", "", name).lower()

    return next((name for name in names if squashed(name) == squashed(part)), None)


def _from_json(text: str) -> object:
    """Parse lists, objects and null; the schema reads any other text as a number or truth value."""
    if text[:1] not in "[{" and text != "null":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with_value(tree: Any, keys: Sequence[str], value: object) -> Any:
    if not keys:
        return value
    branch = tree if isinstance(tree, dict) else {}
    return {**branch, keys[0]: _with_value(branch.get(keys[0]), keys[1:], value)}
