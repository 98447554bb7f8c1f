"""Promises about the files of this project: no addresses in pins, no paths of one machine, links that lead somewhere,
broad excepts at the borders only."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cases.realct import ROOT

FOLDERS = (
    "orthanc_plugin",
    "docs",
    "tests",
    "scripts",
    "models",
    "requirements",
    "typings",
    "changelog.d",
    ".ci",
    ".github",
    "docker",
    "deploy",
    "notebooks",
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted((ROOT / "orthanc_plugin").rglob("*.py"))
ONE_MACHINE = re.compile(r"/(work|root|home/[a-z]+)/[a-z]")
BORDERS = {
    "orthanc_plugin/jobs/stage.py",  # the job
    "orthanc_plugin/jobs/admission.py",  # one odd series or archive must not hold up the others
    "orthanc_plugin/jobs/backfill.py",  # one odd order must not hold up the others
    "orthanc_plugin/jobs/watch.py",  # the watch of a worker has no caller, and outlives a database that is away
    "orthanc_plugin/service/routes.py",  # the route
    "orthanc_plugin/service/admitting.py",  # the admission thread has no caller
    "orthanc_plugin/edge/plugin.py",  # what leaves it would stop Orthanc or be logged by it
}


def texts() -> Iterator[tuple[Path, str]]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in (*ROOT.glob("*.*"), ROOT / "Makefile", *files):
        # .git is a file in a worktree, .coverage holds the paths of the tests.
        if path.is_file() and "__pycache__" not in path.parts and path.name not in (".git", ".coverage"):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8", errors="replace")


def broad_excepts(tree: ast.AST) -> list[int]:
    """Lines of handlers of everything."""
    broad = {"Exception", "BaseException"}
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    return [
        handler.lineno
        for handler in handlers
        if handler.type is None or {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} & broad
    ]


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_pins_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|^--?[a-z]*(index|find-links|url)|\s@\s", text, re.MULTILINE)
    pinned = re.findall(
        r"^[a-zA-Z0-9._-]+(?:\[[^]]+\])?==\S+.*\\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n?)+", text, re.M
    )
    assert len(pinned) == len(re.findall(r"^[a-zA-Z0-9]", text, re.MULTILINE)) > 50


@pytest.mark.parametrize(("name", "runtime"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")])
def test_each_pin_file_has_one_runtime(name: str, runtime: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert re.findall(r"^(onnxruntime[a-z-]*)(?:\[[^]]+\])?==", text, re.MULTILINE) == [runtime]


@pytest.mark.parametrize(
    ("name", "extras"),
    [("cpu", ("cpu", "radiomics")), ("gpu", ("gpu", "radiomics")), ("dev", ("cpu", "radiomics", "build", "dev"))],
)
def test_pins_hold_everything_that_is_asked_for(name: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    names = {re.split(r"[\[<>=]", line)[0].strip().lower() for line in wanted}
    pinned = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]+\])?==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.M)
    assert names - set(pinned) == set(), "stale: run `make pins`"


def test_no_file_names_a_path_of_one_machine() -> None:
    assert {str(path): found[0] for path, text in texts() if (found := ONE_MACHINE.search(text))} == {}


def test_the_tree_holds_no_link_and_nothing_that_git_ignores() -> None:
    def listed(*options: str) -> list[str]:
        return subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()

    assert [line for line in listed("-s") if line.startswith("120000")] == []
    assert listed("-ci", "--exclude-standard") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_every_page_is_reached_from_the_readme() -> None:
    def reachable(page: Path, seen: frozenset[Path]) -> frozenset[Path]:
        for target in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text()):
            other = (page.parent / target).resolve()
            if other.exists() and other not in seen:
                seen = reachable(other, seen | {other})
        return seen

    found = reachable(ROOT / "README.md", frozenset({ROOT / "README.md"}))
    lost = {page for page in PAGES if page not in found}
    assert {str(page.relative_to(ROOT)) for page in lost} == set()


def test_all_exceptions_are_caught_at_the_borders_only() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in MODULES if broad_excepts(ast.parse(path.read_text()))}
    assert found == BORDERS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_a_title_and_its_public_names_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    public = [
        node
        for scope in (tree, *(n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")))
        for node in scope.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_what_is_installed_for_users_is_what_is_tested() -> None:
    """A merge of pins may raise a version in one file only."""
    told = {name: pins(f"requirements/{name}.txt") for name in ("cpu", "gpu", "dev")}
    for users in ("cpu", "gpu"):
        shared = told[users].keys() & told["dev"].keys()
        assert {key: told[users][key] for key in shared} == {key: told["dev"][key] for key in shared}
    assert told["cpu"].keys() <= told["dev"].keys()


def pins(path: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", (ROOT / path).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found
