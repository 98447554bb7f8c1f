"""The files of deploy/: units for systemd, and objects for Kubernetes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.support.cases.realct import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
WORST = 14
"""Tenths, as `systemd-analyze security --threshold` takes them; docs/operations/systemd.md states the figure."""


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd is part of Debian"
        pytest.skip("systemd is not installed")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_as_tight_as_the_docs_say(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={WORST}", str(unit))
    assert done.returncode == 0, done.stdout
    page = (ROOT / "docs" / "operations" / "systemd.md").read_text()
    assert f"rates both units {WORST / 10}" in page


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_valid(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name.replace("@", "@0")
    copy.write_text(re.sub("^ExecStart=.*", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = analyze("verify", str(copy))
    ours = [line for line in done.stderr.splitlines() if unit.name.partition("@")[0] in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_no_password_is_in_a_unit(unit: Path) -> None:
    assert not re.search("^Environment=.*(PASSWORD|SECRET|TOKEN)", unit.read_text(), re.MULTILINE)


KUSTOMIZE = ROOT / "deploy" / "kustomize"
OBJECTS = [
    content
    for file in sorted(KUSTOMIZE.glob("*.yaml"))
    for content in yaml.safe_load_all(file.read_text())
    if content["kind"] != "Kustomization"
]


@pytest.mark.parametrize("content", OBJECTS, ids=lambda content: content["kind"])
def test_objects_follow_the_schemas_of_kubernetes(content: dict[str, object]) -> None:
    kubernetes_validate.validate(content, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_names_every_file() -> None:
    resources = yaml.safe_load((KUSTOMIZE / "kustomization.yaml").read_text())["resources"]
    assert sorted(resources) == sorted(f.name for f in KUSTOMIZE.glob("*.yaml") if f.stem != "kustomization")


def test_a_pod_runs_a_worker_as_compose_does() -> None:
    """Same user, settings, secrets, models and health check: what `make try-containers` shows holds here too."""
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["worker-gpu"]
    pod = next(content for content in OBJECTS if content["kind"] == "Deployment")["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    mounts = {mount["mountPath"] for mount in worker["volumeMounts"]}
    assert compose["command"] == worker["args"]
    assert compose["user"] == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert compose["healthcheck"]["test"] == ["CMD", *worker["livenessProbe"]["exec"]["command"]]
    assert {str(volume).split(":")[0] for volume in compose["volumes"] if ":" not in volume} <= mounts
    assert {"/models", "/tmp", "/run/secrets", "/etc/orthanc-enrichment"} <= mounts
