"""What is shipped: a wheel of the same bytes, a valid list of what is inside, licences that somebody looked at."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts import audit_pins, licences, sbom

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


def advisory(name: str = "Some.Library", version: str = "", ecosystem: str = "PyPI", **events: str) -> dict[str, Any]:
    """A planted advisory in the OSV format."""
    steps = [{key: value} for key, value in events.items()]
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "versions": [version] if version else [],
                "ranges": [{"type": "ECOSYSTEM", "events": steps}]}  # fmt: skip
    return {"id": "PYSEC-0", "modified": "2026-11-01T00:00:00Z", "affected": [affected]}


PINS = {"some-library": "1.10.0", "other": "2.0"}


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (advisory(introduced="0", fixed="1.10.1"), True),
        (advisory(introduced="0", fixed="1.10"), False),
        (advisory(introduced="1.9", fixed="1.11"), True),
        (advisory(introduced="1.11"), False),
        (advisory(introduced="0", last_affected="1.10.0"), True),
        (advisory(introduced="0", last_affected="1.9.9"), False),
        (advisory(version="1.10.0"), True),
        (advisory(version="1.1"), False),
        (advisory(introduced="0", ecosystem="npm"), False),
        (advisory(name="some-libraries", introduced="0"), False),
        (advisory(introduced="0") | {"withdrawn": "2026-01-01T00:00:00Z"}, False),
        (advisory(introduced="0", fixed="not a version"), True),
        (advisory(introduced="not a version", fixed="1.10.0"), False),
    ],
)
def test_a_saved_advisory_speaks_of_the_versions_that_it_names(
    planted: dict[str, Any], found: bool, tmp_path: Path
) -> None:
    (tmp_path / "planted.json").write_text(json.dumps(planted))
    (tmp_path / "other.json").write_text(json.dumps(advisory("unknown", introduced="0")))
    verdict = audit_pins.by_saved(PINS, tmp_path)
    assert [str(one)[:28] for one in verdict.findings] == (["some-library 1.10.0: PYSEC-0"] if found else [])
    assert (verdict.judged, verdict.not_judged, verdict.newest[:10]) == (2, (), "2026-11-01")


def audited(requirements: Path, *words: str) -> tuple[int, str]:
    """Run the script; returns exit code and what it says."""
    command = [sys.executable, "-m", "scripts.audit_pins", *words, str(requirements)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_planted_advisory_on_a_real_pin_is_told_with_its_cure(tmp_path: Path) -> None:
    pins = audit_pins.pins_in(ROOT / "requirements" / "cpu.txt")
    assert len(pins) > 50
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-0.json", json.dumps(advisory("pydicom", introduced="0", fixed="999")))
    code, said = audited(ROOT / "requirements" / "cpu.txt", "--advisories", str(tmp_path / "all.zip"))
    assert (code, f"ADVISORY pydicom {pins['pydicom']}: PYSEC-0; fixed in 999" in said) == (audit_pins.FOUND, True)


def test_saved_advisories_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.json").write_text("{")
    for path in (tmp_path / "no.json", tmp_path / "bad", tmp_path / "nothing"):
        code, said = audited(ROOT / "requirements" / "cpu.txt", "--advisories", str(path))
        assert (code, "get " in said, "ADVISORY" in said) == (1, True, False)


def test_what_could_not_be_asked_is_no_clean_bill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answers(text: str) -> None:
        done = subprocess.CompletedProcess[str]([], 0, text, "the network is away")
        monkeypatch.setattr(audit_pins.subprocess, "run", lambda *words, **more: done)

    answers(json.dumps({"dependencies": [{"name": "other", "version": "2.0", "vulns": []},
                                         {"name": "some-library", "skip_reason": "not found"}]}))  # fmt: skip
    verdict = audit_pins.by_pypi(PINS, tmp_path)
    assert (verdict.judged, verdict.not_judged) == (1, ("some-library: not found",))
    assert audit_pins.report(verdict) == audit_pins.NOT_JUDGED
    answers("")
    verdict = audit_pins.by_pypi(PINS, tmp_path)
    assert (verdict.judged, verdict.not_judged[0]) == (0, "some-library: the network is away")
    answers(json.dumps({"dependencies": [{"name": "other", "version": "2.0", "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.1"]}]}]}))  # fmt: skip
    verdict = audit_pins.by_pypi(PINS, tmp_path)
    assert [str(one) for one in verdict.findings] == ["other 2.0: PYSEC-1; fixed in 2.1"]
    assert verdict.not_judged == ("some-library: pip-audit did not name it",)
    assert audit_pins.report(verdict) == audit_pins.FOUND
