"""What is shipped: a wheel of the same bytes, a valid list of what is inside, licences that somebody looked at."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts import licences, sbom

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


def wheel(checkout: Path, out: Path, umask: int) -> str:
    """Build a wheel; return its digest."""
    command = [UV, "build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--out-dir", out, "."]
    command += ["--python", sys.executable]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1764460800"}
    subprocess.run(command, cwd=checkout, env=environment, check=True, preexec_fn=lambda: os.umask(umask) and None)
    (file,) = out.glob("*.whl")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_wheel_has_the_same_bytes_wherever_and_whenever_it_is_built(tmp_path: Path) -> None:
    digests = set()
    for name, umask in (("one", 0o022), ("another-longer-name", 0o077)):
        checkout = tmp_path / name
        for part in ("orthanc_plugin", "models", "LICENSE", "README.md", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
            checkout.mkdir(exist_ok=True)
            copy(ROOT / part, checkout / part)
        for file in checkout.rglob("*"):
            os.utime(file, (1e9 + umask * 1e4, 1e9 + umask * 1e4))
        digests.add(wheel(checkout, tmp_path / f"{name}.out", umask))
    assert len(digests) == 1


def test_the_list_of_what_is_inside_is_valid_and_always_the_same() -> None:
    words = [sys.executable, "scripts/sbom.py"]
    one, other = (subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert one == other
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(one) is None
    names = {component["name"] for component in json.loads(one)["components"]}
    assert {"pydicom", "highdicom", "dbos"} <= names


def test_debians_packages_are_in_it() -> None:
    if shutil.which("dpkg-query"):
        assert any(c.name == "base-files" and c.purl.startswith("pkg:deb/debian/") for c in sbom.debian_components())


def test_the_page_of_licences_is_complete_and_every_licence_was_looked_at() -> None:
    assert licences.PAGE.read_text(encoding="utf-8") == licences.page()
    assert [row for row in licences.rows() if not row[2]] == []
