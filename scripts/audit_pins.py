"""Hold pinned versions against advisories: those of PyPI, or saved ones for a computer without a network.

Usage: python -m scripts.audit_pins [--advisories PATH] REQUIREMENTS...

PATH is a file, a folder or a ZIP file of advisories in the OSV format (JSON), such as
https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip. Exit codes: 0 no advisory speaks of a pin, 1 one does,
3 some pins could not be judged.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

CLEAN, FOUND, NOT_JUDGED = 0, 1, 3
SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
_OLDEST = Version("0")
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """An advisory that speaks of a pin. fixed: versions that cure it."""

    name: str
    version: str
    advisory: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line."""
        cure = f"; fixed in {', '.join(self.fixed)}" if self.fixed else ""
        return f"{self.name} {self.version}: {self.advisory}{cure}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. judged: pins that were held against advisories; not_judged: the others, each with the reason."""

    judged: int
    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...] = ()
    newest: str = ""


def pins_in(file: Path) -> dict[str, str]:
    """Return name and version of each pin."""
    found = {str(canonicalize_name(name)): version for name, version in _PIN.findall(file.read_text())}
    if not found:
        raise SystemExit(f"{file} holds no pins")
    return found


def by_saved(pins: Mapping[str, str], path: Path) -> Verdict:
    """Hold pins against saved advisories; SystemExit if there are none."""
    findings, newest, count = set[Finding](), "", 0
    for advisory in _advisories(path):
        count += 1
        newest = max(newest, str(advisory.get("modified", "")))
        findings |= set(_found(advisory, pins))
    if not count:
        raise SystemExit(f"{path} holds no advisory in the OSV format; get {SOURCE}")
    return Verdict(len(pins), tuple(sorted(findings)), newest=newest)


def _advisories(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield from _parsed(file.name, file.read_bytes())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    yield from _parsed(name, archive.read(name))
    elif path.is_file():
        yield from _parsed(path.name, path.read_bytes())
    else:
        raise SystemExit(f"{path} is not there; get {SOURCE}")


def _parsed(name: str, content: bytes) -> Iterator[dict[str, Any]]:
    try:
        found = json.loads(content)
    except ValueError:
        raise SystemExit(f"{name} is not valid JSON: get the advisories anew") from None
    for one in found if isinstance(found, list) else [found]:
        if isinstance(one, dict) and "id" in one and "affected" in one and not one.get("withdrawn"):
            yield one


def _found(advisory: Mapping[str, Any], pins: Mapping[str, str]) -> Iterator[Finding]:
    for affected in advisory["affected"]:
        package = affected.get("package", {})
        name = canonicalize_name(str(package.get("name", "")))
        if package.get("ecosystem") != "PyPI" or name not in pins:
            continue
        events = [event for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"
                  for event in one.get("events", ())]  # fmt: skip
        if pins[name] in affected.get("versions", ()) or _is_in(pins[name], events):
            fixed = tuple(str(event["fixed"]) for event in events if "fixed" in event)
            yield Finding(name, pins[name], str(advisory["id"]), fixed)


def _is_in(version: str, events: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a version lies in the ranges of an advisory (OSV schema, evaluation of `events`).

    An end of a range that is not a version of PEP 440 ends nothing: better a finding too many.
    """
    own, inside = Version(version), False
    places = sorted((_version(text), kind != "introduced", kind) for event in events for kind, text in event.items())
    for place, _, kind in places:
        if kind == "introduced":
            inside = inside or own >= place
        elif place != _OLDEST and own >= place and not (kind == "last_affected" and own == place):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return _OLDEST


def by_pypi(pins: Mapping[str, str], file: Path) -> Verdict:
    """Ask PyPI by pip-audit, which ends well even if it could ask nothing."""
    words = ["pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json", "-r", file]
    program = Path(sys.executable).with_name("pip-audit")
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
    try:
        answer: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return Verdict(0, (), tuple(f"{name}: {why}" for name in pins))
    skipped = tuple(f"{one['name']}: {one['skip_reason']}" for one in answer if "skip_reason" in one)
    findings = {
        Finding(one["name"], one["version"], vulnerability["id"], tuple(vulnerability["fix_versions"]))
        for one in answer
        for vulnerability in one.get("vulns", ())
    }
    missing = tuple(f"{name}: pip-audit did not name it" for name in pins.keys() - {one["name"] for one in answer})
    return Verdict(len(answer) - len(skipped), tuple(sorted(findings)), (*skipped, *missing))


def report(verdict: Verdict) -> int:
    """Print what was found; return the exit code."""
    newest = f"; the newest advisory is of {verdict.newest[:10]}" if verdict.newest else ""
    print(f"{verdict.judged} pins were held against advisories{newest}")
    for finding in verdict.findings:
        print(f"ADVISORY {finding}")
    if verdict.not_judged:
        print(f"NOT JUDGED: {len(verdict.not_judged)} pins, such as {verdict.not_judged[0]}")
        print(f"PyPI's advisories cannot be reached from here. Where there is a network, get {SOURCE}")
        print("(advisories of OSV.dev), bring it here, and run: make audit-pins ADVISORIES=all.zip")
    return FOUND if verdict.findings else NOT_JUDGED if verdict.not_judged else CLEAN


def main() -> int:
    """Judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--advisories", type=Path, metavar="PATH", help="saved advisories (OSV, JSON)")
    parser.add_argument("requirements", type=Path, nargs="+", help="files of pins")
    options = parser.parse_args()
    codes = set()
    for file in options.requirements:
        pins, saved = pins_in(file), options.advisories
        print(f"{file.name}: ", end="")
        codes.add(report(by_saved(pins, saved) if saved is not None else by_pypi(pins, file)))
    return next(code for code in (FOUND, NOT_JUDGED, CLEAN) if code in codes)


if __name__ == "__main__":
    sys.exit(main())
