"""All that the pages do is in the API and on the command line: pages, routes and commands side by side."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

import pytest

from orthanc_plugin.cli.filters import OPTIONS, PEOPLE
from orthanc_plugin.cli.main import _parser
from orthanc_plugin.cli.series import ACTS
from orthanc_plugin.service.openapi import OPERATIONS
from orthanc_plugin.service.pages import HERE
from orthanc_plugin.service.schema_pages import Act
from orthanc_plugin.service.searching import FILTERS


@dataclass(frozen=True)
class Way:
    """One thing to do. page: the act or address in the templates. route: method and path. command: with its options."""

    page: str
    route: str
    command: str


WAYS = (
    Way("jobs/*/retry", "post /jobs/{id}/retry", "jobs retry"),
    Way("jobs/*/cancel", "post /jobs/{id}/cancel", "jobs cancel"),
    Way("jobs/*/withdraw", "post /jobs/{id}/withdraw", "jobs withdraw"),
    Way("deliveries/*/*/*", "post /deliveries/{subject}/{destination}/retry", "jobs retry --to"),
    Way("deliveries/*/*/*", "post /deliveries/{subject}/{destination}/cancel", "jobs cancel --to"),
    Way("*/*", "post /deliveries/{subject}/{destination}/retry", "jobs retry --to"),
    Way("", "post /jobs/{id}/deliveries/{destination}/retry", "jobs retry --to"),
    Way("", "post /jobs/{id}/deliveries/{destination}/cancel", "jobs cancel --to"),
    Way("retry?reason=failed", "post /retry", "jobs retry-all --reason --text"),
    Way("decide-again", "post /decide-again", "jobs decide-again --reason --query"),
    Way("backfills", "post /backfills", "backfill --query --list"),
    Way("backfills/*/stop", "post /backfills/{order}/stop", "backfill --stop"),
    Way("page backfill", "get /backfills", "backfill"),
    Way("pause", "post /pause", "jobs pause"),
    Way("resume", "post /resume", "jobs resume"),
    Way("series/act", "post /series/act", "series act"),
    Way("/enrichment/", "get /series", "series list --limit --offset"),
    Way("page jobs", "get /jobs", "jobs list --limit --offset"),
    Way("page jobs", "get /jobs/{id}", "jobs show"),
    Way("/enrichment/find", "post /find", "series find --accession-number --patient-id"),
    Way("patients", "post /patients", "series patient"),
    Way("page deliveries", "get /deliveries", "jobs deliveries --state"),
    Way("/enrichment/rules/verdicts", "get /inspect", "rules explain"),
    Way("/enrichment/rules/files", "get /inspect", "rules test"),
    Way("", "get /inspect/picture.png", "inspect --out"),
    Way("rules/compare", "post /rules/compare", "rules compare"),
    Way("rules/compare", "get /rules/compare", "rules compare"),
    Way("page system", "get /webhooks", "webhooks list"),
    Way("webhooks/*/test", "post /webhooks/{name}/test", "webhooks test"),
    Way("*/radiomics", "get /jobs/{id}/radiomics.json", "jobs radiomics --json"),
    Way("page jobs", "get /jobs/{id}/radiomics.csv", "jobs radiomics"),
    Way("", "get /jobs/{id}/radiomics.parquet", "jobs radiomics --parquet"),
    Way("page jobs", "get /jobs/{id}/preview.png", "jobs picture --preview"),
    Way("page jobs", "get /jobs/{id}/scan", "jobs picture"),
    Way("page jobs", "get /jobs/{id}/slices/{plane}/{index}.png",
        "jobs picture --plane --slice --window --hide --no-outlines"),
)  # fmt: skip
WITHOUT_COMMAND = {
    "get /events": "a stream for pages; commands that follow something ask the database",
    "get /health": "what only the running service knows: its admission, its workers",
    "post /hints": "for Orthanc's plugin alone",
}

OF_BROWSERS = {"/enrichment/login", "/enrichment/logout"}
"""Sessions: programs send a password or a token with each request, and commands need neither."""


def acts_of_pages() -> set[str]:
    """Acts and addresses of forms in the templates and scripts, with a star for what a page fills in."""
    found = set()
    for file in [*(HERE / "templates").glob("*.html"), *(HERE / "static").glob("*.js")]:
        text = file.read_text(encoding="utf-8")
        for name in ("address",):  # set in the templates by their own variable
            text = re.sub(rf"{{{{ {name} }}}}", "*", text)
        written = re.findall(r'data-act="([^"]+)"|<form[^>]* action="([^"]+)"|post\("([^"]+)"', text)
        found |= {re.sub(r"\{\{.*?\}\}", "*", "".join(groups)) for groups in written}
        found |= set(re.findall(r'"(/enrichment/rules/files)"', text))
    return found


def test_each_act_of_a_page_has_a_route_and_a_command() -> None:
    assert acts_of_pages() - {way.page for way in WAYS} <= {"*", *OF_BROWSERS}  # a star: the search of the radiomics
    assert {way.page for way in WAYS if way.page and not way.page.startswith("page ")} - {"*/radiomics"} <= (
        acts_of_pages()
    )


def test_each_route_has_a_command() -> None:
    routes = {f"{operation.method} {operation.path}" for operation in OPERATIONS}
    assert routes - {way.route for way in WAYS} == set(WITHOUT_COMMAND)
    assert {way.route for way in WAYS} <= routes


def commands(parser: argparse.ArgumentParser, name: str = "") -> dict[str, set[str]]:
    """The options of each command."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return {name: {option for action in parser._actions for option in action.option_strings}}
    inner = (commands(sub, f"{name} {key}".strip()) for group in groups for key, sub in group.choices.items())
    return {key: options for found in inner for key, options in found.items()}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.route} {way.command}")
def test_each_command_exists_with_its_options(way: Way) -> None:
    words = way.command.split(" ")
    name = " ".join(word for word in words if not word.startswith("--"))
    assert {word for word in words if word.startswith("--")} | {"--json"} <= commands(_parser())[name]


def test_the_search_has_the_same_fields_everywhere() -> None:
    page = (HERE / "templates" / "dashboard.html").read_text(encoding="utf-8")
    fields = set(re.findall(r'name="(\w+)"', page))
    assert set(FILTERS) == {*OPTIONS, "standing"}
    assert set(FILTERS) - {"text"} <= fields
    assert set(PEOPLE) <= fields
    wanted = {f"--{name.replace('_', '-')}" for name in (*FILTERS, *PEOPLE)}
    for name in ("jobs list", "series list", "series act"):
        assert wanted <= commands(_parser())[name]


def test_the_acts_on_many_series_are_the_same_everywhere() -> None:
    page = (HERE / "templates" / "dashboard.html").read_text(encoding="utf-8")
    chosen = page.partition('<select name="act">')[2].partition("</select>")[0]
    assert {*ACTS} == {*Act} == set(re.findall(r'value="([\w-]+)"', chosen))
