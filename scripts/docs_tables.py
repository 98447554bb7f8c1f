"""Write the reference tables of the documentation out of the code: settings, commands, errors, reasons and rights.

Usage: python scripts/docs_tables.py (`make docs-tables`). A test fails while docs/reference is stale.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orthanc_plugin import errors
from orthanc_plugin.cli.main import _parser
from orthanc_plugin.cohort.schema import KEYS_OF_WIDE, TABLES, USUAL_FEATURES
from orthanc_plugin.config.base import Range
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.schema import fields, model_in
from orthanc_plugin.config.sections import Configuration, section_json
from orthanc_plugin.errors import Refusal
from orthanc_plugin.service.permissions import PERMISSIONS, Permission

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
_NOTE = "<!-- Written by scripts/docs_tables.py from the code: run `make docs-tables`. -->"
_ONE_OF_MANY: dict[Any, str] = {dict: ".NAME.", tuple: "[]."}
_SMALLEST = {"Archives": {"local": {"Url": "http://pacs"}}}


def _table(*heads: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _settings(model: type[BaseModel] = Configuration, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in fields(model).items():
        key = prefix + name
        yield key, field
        inner = model_in(field.annotation)
        if inner and inner is not Range:
            yield from _settings(inner, key + _ONE_OF_MANY.get(get_origin(field.annotation), "."))


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if key == "Archives.NAME.Url":
        return '`""`'
    if key == "Database":
        return "`jobs.db` in `StateDirectory`"
    value: Any = json.loads(section_json(parse_section(_SMALLEST, {})))
    for part in key.replace("NAME", "local").replace("[]", ".0").split("."):
        value = value[int(part)] if part.isdigit() else value.get(part)
        if value is None:  # a section that is left out: its keys have defaults all the same
            value = field.default
            break
    if model_in(field.annotation) is Range and value:
        value = {end: limit for end, limit in value.items() if limit is not None}
    elif (isinstance(value, dict) and value) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return "its keys below"
    return f"`{re.sub(r'[.]0(?=[}]|$)', '', json.dumps(value))}`"


def settings_page() -> str:
    """Return every key of the section "Enrichment", its default and its allowed values."""
    rows = ((f"`{key}`", _default(key, field), field.description or "") for key, field in _settings())
    return f"""# Settings

Look up a key of the section `"Enrichment"` of orthanc.json. `NAME` stands for the name of an archive or a webhook, and
`[]` for each rule of the list. [Configuration](../configuration.md) explains what each key does.

{_table("Key", "Default", "Allowed", rows=rows)}
"""


def _commands(parser: argparse.ArgumentParser, text: str = "") -> Iterator[tuple[argparse.ArgumentParser, str]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for sub in group.choices.values():
            yield from _commands(sub, sub.description or "")
    if not groups:
        yield parser, text


def _word(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest.upper()}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[-1]}{value}`"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    for action in parser._actions:
        if action.dest in ("help", "json", "config"):
            continue
        default = "" if action.default in (None, []) or action.default is False else f"`{action.default}`"
        yield _word(action), "required" if action.required else default, (action.help or "").replace("%%", "%")


def cli_page() -> str:
    """Return every command with its arguments and options."""
    sections = []
    for parser, text in _commands(_parser()):
        rows = list(_arguments(parser))
        table = _table("Argument", "Default", "Meaning", rows=iter(rows)) if rows else "No arguments of its own."
        sections.append(f"## {parser.prog}\n\n{text[:1].upper()}{text[1:].rstrip('.')}.\n\n{table}\n")
    return f"""# Commands

Look up an argument or an option. Every command also takes `--help`, `--json` (results for machines on stdout) and
`--config` (an orthanc.json or a folder of such files). [Command line](../cli.md) explains what each command does.

{chr(10).join(sections)}"""


def _tree(kind: type[errors.EnrichError]) -> Iterator[tuple[str, ...]]:
    for sub in kind.__subclasses__():
        drawn = re.search(rf"^ +{sub.__name__} +(.+)$", errors.__doc__ or "", re.MULTILINE)
        yield f"`{sub.__name__}`", drawn[1] if drawn else "", (sub.__doc__ or "").strip()
        yield from _tree(sub)


def _rooms_that_give(reason: Refusal) -> list[str]:
    package = ROOT / "orthanc_plugin"
    needle = re.compile(rf"\bRefusal\.{reason.name}\b")
    paths = (path for path in package.rglob("*.py") if needle.search(path.read_text(encoding="utf-8")))
    return sorted({f"`{path.relative_to(package).parts[0]}`" for path in paths})


def errors_page() -> str:
    """Return every class of error and every reason with the rooms that give it."""
    reasons = ((f"`{reason.value}`", ", ".join(_rooms_that_give(reason))) for reason in Refusal)
    return f"""# Errors and reasons

Look up which part of the program raises an error or refuses a series. [Errors](../errors.md) explains what each of
them means and what to do.

## Errors

{_table("Error", "When, and whether it is tried again", "Default message", rows=_tree(errors.EnrichError))}

## Reasons

{_table("Reason", "Given in", rows=reasons)}
"""


def _line_of(line: Permission) -> tuple[str, ...]:
    return " ".join(line.methods) or "any other", f"`{line.path}`", f"`{line.right}`", str(line.lowest)


def routes_page() -> str:
    """Return the right that each route needs, and the lowest role that has it."""
    return f"""# Routes and rights

Look up the right that a route needs. The first line that fits a request counts; what no line fits needs the right
`settings`. The gate of the service, its tests and this page read the same table. [Access](../security/access.md)
explains rights and roles. The hints route of Orthanc's plugin needs its secret alone.

{_table("Method", "Path", "Right", "Role from which on", rows=map(_line_of, PERMISSIONS))}
"""


def tables_page() -> str:
    """Return every table of a cohort with its columns, their types and units."""
    sections = []
    for table in (*TABLES.values(), KEYS_OF_WIDE):
        rows = ((f"`{c.name}`", c.kind.value, f"`{c.unit}`" if c.unit else "", c.meaning) for c in table.columns)
        body = _table("Column", "Type", "Unit", "Meaning", rows=rows)
        sections.append(f"## {table.name}\n\n{table.meaning}.\n\n{body}\n")
    usual = ", ".join(f"`{name}`" for name in USUAL_FEATURES)
    return f"""# Tables of a cohort

Look up a column of the Parquet files that `orthanc-enrich cohort build` writes. Units are UCUM. The files carry the
same words as metadata. [Cohorts](../cohort.md) explains how to build and ask them.

{chr(10).join(sections)}
After these columns, `measurements_wide` has a column for each feature that a report measured on the original image,
named as in the column `feature` of `measurements`. These are always there: {usual}.
"""


def pages() -> dict[Path, str]:
    """Return what each file of docs/reference must hold."""
    texts = {
        "settings": settings_page(),
        "cli": cli_page(),
        "errors": errors_page(),
        "routes": routes_page(),
        "cohort-tables": tables_page(),
    }
    return {FOLDER / f"{name}.md": f"{_NOTE}\n{text}" for name, text in texts.items()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
