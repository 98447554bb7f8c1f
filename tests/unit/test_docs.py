"""Pages that list what the code has list all of it and nothing else.

Commands: test_cli. Settings: test_config_docs. Errors: test_errors_docs. Routes: test_service_api. Features:
test_radiomics_codes. Refusals of the loader: test_geometry_docs.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from orthanc_plugin import codes
from orthanc_plugin.catalog.card import CardFile, CardLabel, ModelCard
from orthanc_plugin.catalog.shelf import list_models
from orthanc_plugin.cli import main as cli
from orthanc_plugin.codes import Code
from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs import ledger
from orthanc_plugin.results import listing
from orthanc_plugin.results.sr import (
    body_landmarks,
    body_regions,
    body_scan,
)
from orthanc_plugin.results.sr.body_codes import LEVELS, REGIONS
from orthanc_plugin.service import api, routes, schema, schema_pages, searching
from scripts.chest_variants import merged
from tests.support.cases.realct import ROOT

CARDS = list_models(None)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def first_cells(name: str, heading: str) -> list[str]:
    """What the first column of the table under a heading names, in backticks."""
    section = re.split(r"^#+ ", page(name).partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return [
        word for cell in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE) for word in re.findall(r"`([^`]+)`", cell)
    ]


def options(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, str]]:
    """Every command with each of its own options and arguments."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from options(sub, f"{path} {name}".strip())
        elif path and action.dest not in ("help", "json", "config"):
            yield path, action.option_strings[0] if action.option_strings else action.dest


def test_options_of_the_commands() -> None:
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page("cli.md"), re.MULTILINE | re.DOTALL))
    lost = []
    for command, name in options(cli._parser()):
        word = name if name.startswith("-") else {"directory": "DIR"}.get(name, name.upper())
        if word not in sections[command]:
            lost.append((command, word))
    assert lost == []


def test_states() -> None:
    assert sorted(first_cells("jobs.md", "States")) == sorted(state.value for state in JobState)


def test_columns_of_the_ledger() -> None:
    columns = set(ledger._decisions.columns.keys()) - {"id"}
    assert set(first_cells("jobs.md", "The ledger")) == columns


def test_keys_of_a_model_card() -> None:
    keys = {field.name for field in fields(CardFile)}
    named = first_cells("models.md", "card.json, schema 1")
    labels = {field.name for field in fields(CardLabel)}
    assert set(named) == keys | labels


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_model_has_its_page_with_its_structures(card: ModelCard) -> None:
    text = page(f"models/{card.name}.md")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    told = {(int(number), key, tuple(re.findall(r"\d{5,}", coded))) for number, key, coded in rows}
    assert told == {
        (label.number, label.key, (label.type.value, *((label.modifier.value,) if label.modifier else ())))
        for label in card.labels
    }
    assert "Research use only" in text


def test_codes_of_results() -> None:
    shared = {code.value for _, code in inspect.getmembers(codes) if isinstance(code, Code)}
    assert shared <= set(re.findall(r"\b[A-Z_]*\d*\b", page("results.md")))


def test_places_and_names_of_results() -> None:
    told = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| (\d{2}) \| `([\w ]+) \.\.\.` \|", page("results.md"), re.MULTILINE)
    assert {kind: (int(place), name) for kind, place, name in told} == {
        kind.value: place for kind, place in listing.PLACES.items()
    }


def test_codes_of_body_landmarks_and_regions() -> None:
    told = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| ([^|]+) \|$", page("results.md"), re.MULTILINE)
    levels = {key: (in_words(level.structure), in_words(level.modifier)) for key, level in LEVELS.items()}
    assert {key: (structure, modifier) for key, structure, modifier in told} == levels
    regions = {region.value: ", ".join(map(in_words, codes)) for region, codes in REGIONS.items()}
    assert dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \|$", page("results.md"), re.MULTILINE)) == regions


def in_words(code: Code | None) -> str:
    return f"{code.value} {code.meaning}" if code else "-"


def test_private_codes_of_body_part_regression() -> None:
    told = dict(re.findall(r"^\| (BPR_\w+) \| ([^|]+) \|", page("results.md"), re.MULTILINE))
    modules = (body_scan, body_landmarks, body_regions)
    private = {code for module in modules for _, code in inspect.getmembers(module) if isinstance(code, Code)}
    private |= {*body_scan.COVERAGE.values()}
    assert {code.value: code.meaning for code in private if code.scheme == codes.PRIVATE_SCHEME} == told


def test_error_codes_of_the_api() -> None:
    told = re.findall(r"^\| (\d{3}) \| `([a-z-]+)`", page("api.md"), re.MULTILINE)
    assert {int(status): code for status, code in told} == routes._CODES


def test_limits_and_bodies_of_the_api() -> None:
    text = page("api.md")
    assert f"1 to {searching.LARGEST_LIMIT} ({searching.DEFAULT_LIMIT})" in text
    assert f"{api.HINT_BYTES // 1024} KiB" in text
    assert all(hasattr(schema, name) or hasattr(schema_pages, name) for name in re.findall(r"[Bb]ody: `(\w+)`", text))


def test_settings_that_the_plugin_reads() -> None:
    source = (ROOT / "orthanc_plugin" / "edge" / "plugin.py").read_text()
    read = re.findall(r'_get\(\w+, "(\w+)", .*?, "(|Service\.)"\)', source)
    keys = {f"Enrichment.{prefix}{key}" for key, prefix in read} - {"Enrichment.Service"}
    assert set(first_cells("plugin.md", "Settings")) == keys


def test_a_row_of_changed_chests_is_replaced_alone() -> None:
    head = "| change | x |\n|---|---|\n"
    page = f"text\n<!-- table -->\n\n## a, 1 x 1 voxels\n\n{head}| one | 1 |\n| two | 2 |\n\n## b, 2\n\n| three | 3 |\n"
    new = ["## a, 9 x 9 voxels", "", "| change | x |", "|---|---|", "| two | 5 |", "| four | 4 |", ""]
    got = merged(page, "a", new)
    assert got == page.replace("a, 1 x 1", "a, 9 x 9").replace("| two | 2 |", "| two | 5 |\n| four | 4 |")
    assert merged(got, "a", new) == got
    assert merged(page, "c", ["## c, 1", "", "| five | 5 |", ""]) == page + "\n## c, 1\n\n| five | 5 |\n"
