"""The workflows at GitHub run what `.ci/run` runs, with actions that nobody can change under us, and few rights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cases.realct import ROOT

FILES = sorted((ROOT / ".github" / "workflows").iterdir())
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def jobs(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(file.read_text())["jobs"].values())


def test_there_are_workflows() -> None:
    assert [file.name for file in FILES] == ["advisories.yml", "ci.yml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_fits_the_schema_of_workflows(file: Path) -> None:
    words = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", file]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_action_is_pinned_by_its_full_commit(file: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: *(.+)$", file.read_text(), re.MULTILINE)
    steps = [step for job in jobs(file) for step in job["steps"] if "uses" in step]
    assert len(used) == len(steps) >= 1
    assert [text for text in used if not PINNED.fullmatch(text)] == []
    assert not any("uses" in job for job in jobs(file)), "a workflow of others"


@pytest.mark.parametrize("text", ["actions/checkout@v4", "actions/checkout@11bd719", "actions/checkout@main # v4.2.2"])
def test_no_other_form_is_a_pin(text: str) -> None:
    assert not PINNED.fullmatch(text)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_may_only_read_and_runs_in_an_exact_image(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}
    for job in jobs(file):
        assert re.fullmatch(r"debian:\d+\.\d+", job["container"]["image"])
        assert "permissions" not in job
        checkout = next(step for step in job["steps"] if "uses" in step)
        assert checkout["with"]["persist-credentials"] is False


def test_ci_is_the_script_and_keeps_what_its_browser_saw() -> None:
    (job,) = jobs(ROOT / ".github" / "workflows" / "ci.yml")
    script, upload = job["steps"][-2:]
    assert script == {"run": ".ci/run"}
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert (upload["if"], upload["with"]["path"]) == ("${{ !cancelled() }}", ".browser")
    assert upload["with"]["include-hidden-files"] is True  # its name begins with a dot
