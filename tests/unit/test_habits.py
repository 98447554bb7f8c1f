"""What helps people stays true: changelog fragments, hooks, forms, citation, targets, generated tables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from orthanc_plugin import __version__
from scripts.docs_tables import pages
from tests.support.cases.realct import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FRAGMENTS = sorted(path for path in (ROOT / "changelog.d").iterdir())
TABLES = pages()
KINDS = "|".join(kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"])


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_a_changelog_fragment_is_one_entry_in_words(path: Path) -> None:
    assert re.fullmatch(rf"\+[a-z0-9]+(-[a-z0-9]+)*\.({KINDS})\.md", path.name)
    text = path.read_text()
    assert re.fullmatch(r"(?!- |# )\S.*[.)]\n", text), "one line that ends with a full stop"
    assert all((ROOT / target).exists() for target in re.findall(r"\]\(([^)#:\s]+)", text) if "//" not in target)


def test_a_release_gathers_every_fragment() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.2.3", "--date", "2027-01-01"]
    gathered = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "## 1.2.3 - 2027-01-01\n" in gathered
    assert all(f"- {path.read_text()}" in gathered for path in FRAGMENTS)


def test_the_changelog_has_the_place_where_releases_are_gathered() -> None:
    start = PROJECT["tool"]["towncrier"]["start_string"]
    assert (ROOT / "CHANGELOG.md").read_text().count(start) == 1


@pytest.mark.parametrize("path", list(TABLES), ids=lambda path: path.name)
def test_a_table_of_the_reference_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == TABLES[path], "stale: run `make docs-tables`"


def test_the_list_of_decisions_has_every_title() -> None:
    folder = ROOT / "docs" / "decisions"
    titles = [f"[{path.read_text().splitlines()[0][2:]}]({path.name})" for path in sorted(folder.glob("[0-9]*.md"))]
    assert re.findall(r"^- (.+)$", (folder / "README.md").read_text(), re.MULTILINE) == titles


def test_threads_carry_the_ids_of_their_job() -> None:
    plain = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "orthanc_plugin").rglob("*.py")
        if "ThreadPoolExecutor" in path.read_text()
    ]
    assert plain == ["orthanc_plugin/correlation.py"], "use CarryingPool"


def test_every_hook_runs_a_tool_of_this_checkout() -> None:
    repositories = load(".pre-commit-config.yaml")["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)


@pytest.mark.parametrize("name", ["bug", "wish", "model"])
def test_an_issue_form_asks_for_something(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert any(part.get("validations", {}).get("required") for part in fields)
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)


def test_the_citation_names_version_and_licence() -> None:
    citation = load("CITATION.cff")
    assert citation["version"] == PROJECT["project"]["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]


def test_help_lists_every_target_that_people_call() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    listed = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    assert set(phony.split()) - set(listed) == {"parity-env"}
    assert makefile.index("\nhelp:") < makefile.index("\nsetup:")


def test_the_floor_of_coverage_is_the_one_that_contributors_read() -> None:
    floor = PROJECT["tool"]["coverage"]["report"]["fail_under"]
    assert f"must reach {floor} %" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_wheel_says_that_it_is_typed() -> None:
    assert (ROOT / "orthanc_plugin" / "py.typed").exists()
