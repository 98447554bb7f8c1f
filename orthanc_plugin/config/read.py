"""The one reading of the settings, for the service, the workers and every command: overrides, defaults, checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orthanc_plugin.config.base import is_loopback
from orthanc_plugin.config.orthanc import EXPOSED, is_exposed, unsafe, with_local_archive
from orthanc_plugin.config.orthanc_json import JsonObject, read_orthanc_json
from orthanc_plugin.config.overrides import override
from orthanc_plugin.config.problems import contradictions, problem, shown
from orthanc_plugin.config.sections import SECTION, Configuration
from orthanc_plugin.errors import ConfigError


def load_configuration(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Read orthanc.json, or a folder of `*.json` files merged as Orthanc merges them.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files share no top-level key.
    environ : Mapping
        Values of `${NAME}` in the files (unset: empty, as in Orthanc; `${NAME:-default}`), and overrides such as
        `ENRICHMENT__ARCHIVES__LOCAL__PASSWORD`.

    Raises
    ------
    ConfigError
        With one line for each problem: the key, its value (never a password), and what is allowed.
    """
    document, notes = read_orthanc_json(path, environ)
    if SECTION not in document:
        raise ConfigError(f'{path}: there is no section "{SECTION}"')
    return parse_document(document, environ, notes)


def parse_section(section: object, environ: Mapping[str, str]) -> Configuration:
    """Parse a section alone, in which every `${NAME}` is replaced already; otherwise as `load_configuration`."""
    return parse_document({SECTION: section}, environ)


def parse_document(
    document: JsonObject, environ: Mapping[str, str], notes: Mapping[str, str] | None = None
) -> Configuration:
    """Parse Orthanc's whole configuration, or the section and the few other keys that the plugin passes on.

    Parameters
    ----------
    document : dict
        With the key "Enrichment"; every `${NAME}` is replaced already.
    environ : Mapping
        Overrides such as `ENRICHMENT__STABLE_AGE`.
    notes : Mapping, optional
        Remarks by key path, which errors repeat.

    Raises
    ------
    ConfigError
        With one line for each problem: the key, its value (never a password), and what is allowed.
    """
    if is_exposed(document):
        raise ConfigError(EXPOSED)
    section = document[SECTION]
    if not isinstance(section, Mapping):
        raise ConfigError(f"{SECTION}: {shown(section)} is not allowed; allowed: an object")
    section, overrides = override(_with_archives(section), environ)
    section = _with_archives(section)  # an override may have emptied them
    section["Archives"] = with_local_archive(section["Archives"], document)
    configuration = _validate(section, {**(notes or {}), **overrides})
    access, open_host = configuration.access, not is_loopback(configuration.service.host)
    names_users = bool(access.viewers or access.operators or access.admins) and not access.user_header
    if why := unsafe(document, open_host=open_host, names_users=names_users):
        raise ConfigError(why)
    return configuration


def _with_archives(section: Mapping[str, Any]) -> JsonObject:
    """Add the archive `local` if the section names none."""
    archives = section.get("Archives")
    return {**section, "Archives": {"local": {}} if archives in (None, {}) else archives}


def _validate(section: JsonObject, notes: Mapping[str, str]) -> Configuration:
    try:
        configuration = Configuration.model_validate(section)
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        problems = [problem(detail, notes) for detail in details]
    else:
        problems = list(contradictions(configuration))
        if not problems:
            return configuration
    raise ConfigError("\n".join(problems))
