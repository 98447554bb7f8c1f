"""The command `orthanc-enrich setup`: write the settings beside an Orthanc that runs already, and take them back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk
from orthanc_plugin.errors import ConfigError, EnrichError

RECORD = "enrichment-setup"
"""Folder in that of the settings, which Orthanc does not read: the files as they were, and what was changed."""


def add_commands(commands: Commands) -> None:
    """Add `setup`."""
    setup = commands.add(
        "setup", run_setup, "write the settings beside an Orthanc that runs already, and take them back"
    )
    setup.add_argument("--dry-run", action="store_true", help="only say what is missing and what would be changed")
    setup.add_argument("--undo", action="store_true", help="take back what an earlier setup changed")
    text = "user as whom Orthanc runs (default: orthanc)"
    setup.add_argument("--user", default="orthanc", help=text)
    text = "account for people, made if Orthanc has none (default: admin)"
    setup.add_argument("--person", default="admin", help=text)
    text = "where jobs and logs go (default: /var/lib/orthanc-enrichment)"
    default = Path("/var/lib/orthanc-enrichment")
    setup.add_argument("--state-directory", type=Path, default=default, metavar="DIR", help=text)


def run_setup(desk: Desk) -> int:
    """Check, say and write; or undo."""
    from orthanc_plugin.cli import setup_plan as plan

    options = desk.options
    folder = (options.config or Path("/etc/orthanc")).resolve()
    if options.undo:
        return _undo(desk, folder)
    site = plan.Site(folder, options.state_directory, plan.default_python(), options.user, options.person)
    document = site.document()
    found, changes = list(plan.findings(site, document)), list(plan.changes(site, document))
    missing = [finding for finding in found if not finding.ok and finding.needed]
    facts = {
        "findings": [asdict(finding) for finding in found],
        "changes": [_shown(change) for change in changes],
        "state_directory": str(site.state_directory),
        "written": not (missing or options.dry_run) and bool(changes),
    }
    if not missing and not options.dry_run:
        desk.acts(What.SETTINGS)
        _apply(site, changes)
    desk.say(facts, *_report(facts))
    return EXIT_FAILED if missing else EXIT_DONE


def _shown(change: Any) -> dict[str, Any]:
    value = _masked(change.value) if change.secret else change.value
    return {"file": str(change.file), "key": ".".join(change.path), "value": value, "why": change.why}


def _masked(value: Any) -> Any:
    """Hide a password, or those inside a section."""
    if not isinstance(value, dict):
        return "(secret)"
    return {
        key: "(secret)" if key == "Password" else _masked(item) if isinstance(item, dict) else item
        for key, item in value.items()
    }


def _report(facts: dict[str, Any]) -> list[str]:
    lines = ["Checked:"]
    for finding in facts["findings"]:
        mark = "ok     " if finding["ok"] else ("MISSING" if finding["needed"] else "warning")
        remedy = "" if finding["ok"] else f"; {finding['remedy']}"
        lines.append(f"  {mark} {finding['name']}: {finding['detail']}{remedy}")
    if not facts["changes"]:
        return [*lines, "Nothing to change: Orthanc's settings are complete."]
    lines.append("Written:" if facts["written"] else "To be written:")
    for change in facts["changes"]:
        what = "removed" if change["value"] is None else json.dumps(change["value"])
        lines.append(f"  {change['file']}: {change['key']} = {what} ({change['why']})")
    if facts["written"]:
        lines += ["Passwords stand in these files only. Restart Orthanc: service orthanc restart",
                  "Taken back by: orthanc-enrich setup --undo"]  # fmt: skip
    elif any(not finding["ok"] and finding["needed"] for finding in facts["findings"]):
        lines.append("Nothing was written: meet what is MISSING first.")
    return lines


def _apply(site: Any, changes: Sequence[Any]) -> None:
    """Write all files or none: the texts are made and read back first."""
    from orthanc_plugin.cli.setup_plan import group_of
    from orthanc_plugin.config.json_edit import get_value, remove_value, set_value

    record = site.folder / RECORD
    texts: dict[Path, str] = {}
    steps = []
    for change in changes:
        text = texts.get(change.file) or (_read(change.file) if change.file.exists() else "{\n}\n")
        before = get_value(text, change.path, _ABSENT)
        is_gone = change.value is None
        texts[change.file] = remove_value(text, change.path) if is_gone else set_value(text, change.path, change.value)
        steps.append({"file": change.file.name, "path": change.path, "before": before, "after": change.value})
    _try_out(site.folder, texts)
    group = group_of(site.user)
    record.mkdir(mode=0o700, exist_ok=True)
    for file in texts:
        _keep_original(file, record)
    digests = {file.name: hashlib.sha256(text.encode()).hexdigest() for file, text in texts.items()}
    earlier = _read_record(record) if (record / "record.json").exists() else {"steps": [], "made": []}
    made = [file.name for file in texts if not (record / f"{file.name}.before").exists()]
    content = {"steps": [*earlier["steps"], *steps], "files": {**earlier.get("files", {}), **digests}}
    content["made"] = sorted({*earlier["made"], *made})
    # First the record, then the files: whatever ends this between two files can be taken back.
    _write(record / "record.json", json.dumps(content, indent=1), "root", 0o600)
    for file, text in texts.items():
        _write(file, text, group)
    site.state_directory.mkdir(parents=True, exist_ok=True)
    site.state_directory.chmod(0o700)
    shutil.chown(site.state_directory, site.user, group)


_ABSENT = {"absent": "before setup"}


def _try_out(folder: Path, texts: dict[Path, str]) -> None:
    """Read the changed settings in a folder of their own; raise ConfigError before anything is written."""
    from orthanc_plugin.config.read import load_configuration

    with tempfile.TemporaryDirectory() as name:
        for file in {*folder.glob("*.json"), *texts}:
            text = texts[file] if file in texts else _read(file)
            (Path(name) / file.name).write_bytes(text.encode())
        load_configuration(Path(name), os.environ)


def _read(file: Path) -> str:
    return file.read_bytes().decode()  # read_text would change line ends


def _keep_original(file: Path, record: Path) -> None:
    kept = record / f"{file.name}.before"
    if file.exists() and not kept.exists():
        shutil.copy2(file, kept)
        kept.chmod(0o600)


def _write(file: Path, text: str, group: str, mode: int = 0o640) -> None:
    """Replace a file at once; it keeps owner and mode, and a new one is open to Orthanc's group only."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.touch(mode=0o600)
        draft.write_bytes(text.encode())
        if file.exists():
            shutil.copystat(file, draft)
            os.chown(draft, file.stat().st_uid, file.stat().st_gid)
        else:
            shutil.chown(draft, "root", group)
            draft.chmod(mode)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_record(record: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((record / "record.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{record.parent} has no record of a setup: nothing can be taken back") from error
    return content


def _undo(desk: Desk, folder: Path) -> int:
    """Put files back byte for byte; in those that somebody changed since, only the values that are still ours."""
    record = folder / RECORD
    if not desk.options.dry_run:
        desk.acts(What.SETTINGS)
    content = _read_record(record)
    lines, left = [], []
    for name, digest in content["files"].items():
        file, original = folder / name, record / f"{name}.before"
        if not file.exists():
            lines.append(f"{file}: gone already")
        elif _digest(file) == digest and name in content["made"]:
            lines.append(f"{file}: would be removed" if desk.options.dry_run else f"{file}: removed")
            if not desk.options.dry_run:
                file.unlink()
        elif original.exists() and _digest(file) in (digest, _digest(original)):
            lines.append(f"{file}: as it was before setup")
            if not desk.options.dry_run:
                _write(file, _read(original), "root")
        else:
            steps = [step for step in content["steps"] if step["file"] == name]
            left += _undo_values(file, steps, lines, dry_run=desk.options.dry_run)
    if not desk.options.dry_run and not left:
        shutil.rmtree(record)
    state = "The state directory stays: it holds the decisions on every series. Restart Orthanc."
    desk.say({"undone": lines, "left": left}, *lines, *(f"LEFT: {text}" for text in left), state)
    if left:
        raise EnrichError("some values were changed after setup; take them back by hand")
    return EXIT_DONE


def _undo_values(file: Path, steps: Sequence[dict[str, Any]], lines: list[str], *, dry_run: bool) -> list[str]:
    from orthanc_plugin.config.json_edit import get_value, remove_value, set_value

    text, left = _read(file), []
    for step in reversed(steps):
        now = get_value(text, step["path"], None)
        if now == (None if step["before"] == _ABSENT else step["before"]):
            continue  # not written, or taken back by hand
        if now != step["after"]:
            left.append(f"{file}: {'.'.join(step['path'])} was changed since")
            continue
        is_new = step["before"] == _ABSENT
        text = remove_value(text, step["path"]) if is_new else set_value(text, step["path"], step["before"])
        lines.append(f"{file}: {'.'.join(step['path'])} taken back")
    if not dry_run:
        _write(file, text, "root")
    return left
