"""Schema, docs/configuration.md and the sample orthanc.json say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
from pydantic.fields import FieldInfo

from orthanc_plugin.config.base import Range
from orthanc_plugin.config.orthanc_json import parse_json
from orthanc_plugin.config.read import load_configuration, parse_section
from orthanc_plugin.config.schema import fields, model_in
from orthanc_plugin.config.sections import Configuration, section_json
from orthanc_plugin.errors import ConfigError

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "orthanc.json"
PASSWORDS = {"ORTHANC_PASSWORD": "for-people", "ENRICHMENT_PASSWORD": "for-workers"}

# The table below describes what one archive and one rule hold.
ONE_OF_MANY: dict[Any, str] = {dict: ".NAME.", tuple: "[]."}


def _schema(model: type[Any] = Configuration, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in fields(model).items():
        key = f"{prefix}{name}"
        yield key, field
        if (inner := model_in(field.annotation)) and inner is not Range:
            yield from _schema(inner, key + ONE_OF_MANY.get(get_origin(field.annotation), "."))


def _default_of(key: str, field: FieldInfo) -> str:
    """The default as the documentation writes it, from a section that holds only what is required."""
    if field.is_required():
        return "required" if key != "Archives" else "see below"
    if key == "Archives.NAME.Url":
        return '`""`'  # the section below needs one
    value = json.loads(section_json(parse_section({"Archives": {"local": {"Url": "http://pacs"}}}, {})))
    for part in key.replace("NAME", "local").replace("[]", ".0").split("."):
        value = value[int(part)] if part.isdigit() else value.get(part)
        if value is None:  # a section that is left out: its keys have defaults all the same
            value = field.default
            break
    if field.annotation in (Range, Range | None) and value:
        value = {end: limit for end, limit in value.items() if limit is not None}
    elif (isinstance(value, dict) and value) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return "see below"
    return f"`{re.sub(r'[.]0(?=[}]|$)', '', json.dumps(value))}`"


def _documented_rows() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \| [^|]+ \|$", text, re.MULTILINE)
    assert len({key for key, *_ in rows}) == len(rows)
    return {key: (default, allowed) for key, default, allowed in rows}


def test_each_key_has_its_row_with_default_and_allowed_values_and_each_row_its_key() -> None:
    wanted = {
        key: ("see right" if key == "Database" else _default_of(key, field), field.description)
        for key, field in _schema()
    }
    assert _documented_rows() == wanted


def test_sample_loads_and_is_the_defaults_with_accounts_and_paths() -> None:
    configuration = load_configuration(SAMPLE, PASSWORDS)
    local = {
        "Url": "http://127.0.0.1:8042/dicom-web",
        "OrthancUrl": "http://127.0.0.1:8042",
        "User": "enrichment",
        "Password": "for-workers",
    }
    paths = {"Python": "/opt/orthanc-enrichment/venv/bin/python"}
    assert configuration == parse_section({"Archives": {"local": local}, "Service": paths}, {})


def test_sample_without_its_passwords_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="ENRICHMENT_PASSWORD is not set"):
        load_configuration(SAMPLE, {})


def test_sample_writes_every_key() -> None:
    section = parse_json(SAMPLE.read_text())["Enrichment"]

    def present(node: Any, parts: list[str]) -> bool:
        if node in (None, {}):  # a section that is left out: a comment shows its keys
            return all(f'"{part}" :' in SAMPLE.read_text() for part in parts if part != "local")
        return not parts or (parts[0] in node and present(node[parts[0]], parts[1:]))

    for key, _ in _schema():
        parts = key.replace("NAME", "local").split(".")
        node = {**section, "Rules[]": section["Rules"][0]}
        assert present(node, parts), key


def test_documentation_lists_every_kind_of_image() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    kinds = next(field for key, field in _schema() if key.endswith(".ExcludeKinds")).default
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == [str(kind) for kind in kinds]
