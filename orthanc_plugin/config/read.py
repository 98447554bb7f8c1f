"""Reads orthanc.json, or a folder of such files, as Orthanc does; applies overrides; refuses what it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from orthanc_plugin.config.archives import local_archive
from orthanc_plugin.config.orthanc_json import JsonObject, read_orthanc_json
from orthanc_plugin.config.overrides import override
from orthanc_plugin.config.problems import contradictions, problem, shown
from orthanc_plugin.config.sections import SECTION, Configuration
from orthanc_plugin.errors import ConfigError


def load_configuration(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Configuration in orthanc.json, or in a folder of `*.json` merged as Orthanc merges them.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files must not share a top-level key.
    environ : Mapping
        Gives `${NAME}` in the files their values (unset: empty, as in Orthanc; `${NAME:-default}`), and the overrides
        such as `ENRICHMENT__ARCHIVES__LOCAL__PASSWORD`.

    Raises
    ------
    ConfigError
        With a line for each problem: key, value (never a password) and what is allowed.
    """
    document, notes = read_orthanc_json(path, environ)
    if SECTION not in document:
        raise ConfigError(f'{path}: there is no section "{SECTION}"')
    return _parse(document[SECTION], environ, local_archive(document), notes)


def parse_section(section: Mapping[str, object], environ: Mapping[str, str]) -> Configuration:
    """Configuration of a section whose `${NAME}` are replaced already; the rest as `load_configuration`."""
    return _parse(section, environ, local_archive({}), {})


def _parse(section: object, environ: Mapping[str, str], local: JsonObject, notes: Mapping[str, str]) -> Configuration:
    if not isinstance(section, Mapping):
        raise ConfigError(f"{SECTION}: {shown(section)} is not allowed; allowed: an object")
    filled = dict(section)
    filled["Archives"] = filled.get("Archives") or {"local": local}
    filled, overrides = override(filled, environ)
    try:
        configuration = Configuration.model_validate(filled)
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        problems = [problem(detail, {**notes, **overrides}) for detail in details]
    else:
        problems = list(contradictions(configuration))
        if not problems:
            return configuration
    raise ConfigError("\n".join(problems))
