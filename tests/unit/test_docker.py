"""The files of docker/: what can be judged without an engine. `scripts/stack.py` carries out their steps (CI does)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin import __version__
from orthanc_plugin.config.read import load_configuration
from orthanc_plugin.errors import ConfigError
from scripts import images, stack
from tests.support.cases.realct import ROOT

DOCKER = ROOT / "docker"
COMPOSE = stack.compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted(DOCKER.glob("*/Dockerfile"))
PASSWORDS = {name.upper(): "secret" for name in COMPOSE["secrets"]}


def test_hadolint_accepts_the_dockerfiles() -> None:
    words = [Path(sys.executable).with_name("hadolint"), "--config", ROOT / ".hadolint.yaml", *DOCKERFILES]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_file_fits_the_schema_of_the_compose_specification() -> None:
    words = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml"]
    done = subprocess.run(
        [Path(sys.executable).with_name(words[0]), *words[1:]], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_is_root_or_can_write_to_its_image(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert "healthcheck" in service or images_health(service), "no health check"


EXACT = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9]+)?(@sha256:[0-9a-f]{64})?")


@pytest.mark.parametrize("file", [*DOCKERFILES, ROOT / "tests/trixie/Dockerfile"], ids=lambda file: file.parent.name)
def test_every_base_has_an_exact_release(file: Path) -> None:
    text = file.read_text()
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    bases = [re.sub(r"\$\{(\w+)\}", lambda name: defaults[name[1]], base)
             for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE)]  # fmt: skip
    assert bases
    assert [base for base in bases if not EXACT.fullmatch(base)] == []


def test_every_image_of_others_has_an_exact_release_that_pin_bases_can_fix() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    images = re.findall(r"^\s+image: (\S+)$", text, re.MULTILINE) + re.findall(r'DEBIAN: "(\S+)"', text)
    others = [image for image in images if not image.startswith("orthanc-enrichment/")]
    defaults = [re.fullmatch(r"\$\{[A-Z]+_IMAGE:-(.+)\}", image) for image in others]
    assert len(defaults) >= 4
    assert all(default and EXACT.fullmatch(default[1]) for default in defaults), others


def images_health(service: dict[str, Any]) -> bool:
    """Tell whether the image of a service brings its health check."""
    if "build" not in service:
        return False
    return "HEALTHCHECK" in (ROOT / service["build"]["dockerfile"]).read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_come_from_files_only(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        is_secret = re.search("PASSWORD|SECRET|TOKEN", variable)
        assert not is_secret or variable.endswith("FILE"), variable
        assert not is_secret or str(value).startswith("/run/secrets/")
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])


def test_secrets_are_not_in_git_and_every_one_is_made() -> None:
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text().split()
    made = re.search(r"for name in ([\w ]+);", (DOCKER / "make-secrets").read_text())
    assert made
    assert set(made[1].split()) == set(COMPOSE["secrets"])


def test_only_the_front_is_published_and_only_on_this_computer() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert {name for name, published in ports.items() if published} == {"orthanc", "service", "grafana"}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_images_are_pinned_to_a_release() -> None:
    text = stack.COMPOSE.read_text()
    for image in re.findall(r"\$\{[A-Z]+_IMAGE:-([^}]+)\}", text):
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image), image
    own = [service["image"] for service in SERVICES.values() if "build" in service]
    assert all(f":{__version__}" in image for image in own)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_every_instruction_is_one_that_the_script_carries_out(file: Path) -> None:
    steps = list(images.instructions(file.read_text()))
    assert {name for name, _ in steps} <= {
        name[1:].upper() for name in dir(images._Build) if re.fullmatch("_[a-z]+", name)
    }
    assert [rest for name, rest in steps if name == "USER"][-1] == SERVICES["service"]["user"]


def test_the_engine_gets_every_file_that_is_copied_and_not_much_more() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = set()
    for file in DOCKERFILES:
        for name, rest in images.instructions(file.read_text()):
            if name == "COPY" and "--from" not in rest:
                copied |= {word for word in rest.split()[:-1] if not word.startswith("--")}
    copied = {word.replace("${RUNTIME}", runtime) for word in copied for runtime in ("cpu", "gpu")}
    assert {word for word in copied if not any(word == k or word.startswith(f"{k}/") for k in kept)} == set()
    assert all((ROOT / word).exists() for word in copied)


def test_settings_are_read_as_orthanc_reads_them() -> None:
    environ = {**PASSWORDS, "ENRICHMENT_URL": "https://pacs.example"}
    configuration = load_configuration(DOCKER / "orthanc.json", environ)
    assert configuration.service.internal_url == "http://service:8043"
    assert configuration.database == "postgresql://enrichment:secret@database:5432/enrichment"
    assert (configuration.stable_age_s, configuration.workers) == (60, 0)


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="ENRICHMENT_PASSWORD is not set"):
        load_configuration(DOCKER / "orthanc.json", {"ENRICHMENT_URL": "http://x"})


def test_secrets_become_variables(tmp_path: Path) -> None:
    text = (DOCKER / "with-secrets").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "admin_password").write_text('it\'s $HOME; "x"\n')
    (tmp_path / "empty").write_text("")
    program = "import json, os; print(json.dumps([os.environ['ADMIN_PASSWORD'], os.environ['EMPTY']]))"
    done = subprocess.run(
        ["sh", "-c", text, "with-secrets", sys.executable, "-c", program], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == ['it\'s $HOME; "x"', ""]
