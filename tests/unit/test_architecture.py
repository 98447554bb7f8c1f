"""docs/architecture.md names the rooms of the package, the layers of the import contract, and files that exist."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.cases.realct import ROOT

PACKAGE = ROOT / "orthanc_plugin"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TREE = re.search(r"```\northanc_plugin/\n(.*?)```", PAGE, re.DOTALL)
assert TREE
NAMED = re.findall(r"^  (\S+)  +\S", TREE[1], re.MULTILINE)


def real_tree() -> set[str]:
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    return rooms | {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}


def test_the_tree_names_every_room_and_every_root_module_once() -> None:
    assert len(NAMED) == len(set(NAMED))
    assert set(NAMED) == real_tree()


def test_the_layers_are_those_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert "\n".join(layers) in re.findall(r"```\n(.*?)\n```", PAGE, re.DOTALL)


def test_the_tree_stands_in_the_order_of_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    level = {name: number for number, layer in enumerate(layers) for name in layer.split(" | ")}
    levels = [level[name.rstrip("/").removesuffix(".py")] for name in NAMED if name != "edge/"]
    assert levels == sorted(levels)


def test_every_room_says_what_it_refuses() -> None:
    cells = re.findall(r"^\| (`[^|]+) \| ", PAGE, re.MULTILINE)
    told = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert told == {name.rstrip("/") for name in real_tree() if name.endswith("/")}


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    rooms = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir())
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", (ROOT / page).read_text())
    paths = [PACKAGE / name if re.match(rf"({rooms})/", name) else ROOT / name for name in named]
    assert len(paths) > 20
    assert [str(path.relative_to(ROOT)) for path in paths if not path.exists()] == []
