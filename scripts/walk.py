"""Walk through docs/install.md on a bare Debian: run the commands of the page as they stand there.

A block of commands counts if a comment before it says so: `online` and `offline` in their order, `pip` in place of the
environment that uv makes. A block that installs is kept as a layer, until it, or one before it, changes. Needs root.

Usage: python -m scripts.walk [--pip] SUITE... (`make try-install`)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts import roots

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "install.md"
CHECKOUT = "/srv/orthanc-enrichment"
JOB_S = 240.0
_BLOCK = re.compile(r"<!-- walk: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands of the page. kind: online, offline or pip."""

    kind: str
    commands: str

    @property
    def reads_the_checkout(self) -> bool:
        """Whether what it does depends on the checkout."""
        return "requirements/" in self.commands or " ." in self.commands or '".' in self.commands


def blocks(page: str, *, pip: bool = False) -> Iterator[Block]:
    """Yield the blocks of a page in the order of the walk; with `pip` its block takes the place of uv's."""
    found = [Block(kind, commands) for kind, commands in _BLOCK.findall(page)]
    other = [block for block in found if block.kind == "pip"]
    for block in found:
        if block.kind == "pip" or (pip and "uv" in block.commands and block is not other[0]):
            if "uv venv" in block.commands:
                yield Block("online", other[0].commands)
                yield Block("online", f"{block.commands.strip().splitlines()[-1]}\n")
            continue
        yield block


def walk(suite: str, *, pip: bool) -> None:
    """Run all blocks on a bare system, then wait for the results of the phantom that the last one sends."""
    start = time.monotonic()
    kept, layers = hashlib.sha256(suite.encode()), [roots.debian(suite)]
    page = list(blocks(PAGE.read_text(encoding="utf-8"), pip=pip))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"enrichment-walk-{suite}-")))
        checkout = folder / "checkout"
        copy_checkout(checkout)
        points = [
            roots.Point(CHECKOUT, ("--bind", str(checkout))),
            _uv_cache(),
            roots.Point("/tmp", ("-t", "tmpfs", "tmpfs")),  # noqa: S108 (in the other system)
        ]
        for block in [block for block in page if block.kind == "online"]:
            kept.update(block.commands.encode() + (_digest(checkout) if block.reads_the_checkout else b""))
            layer = roots.cache() / "walk" / kept.hexdigest()[:24]
            if not layer.exists():
                draft = layer.with_name(layer.name + ".draft")
                shutil.rmtree(draft, ignore_errors=True)
                with roots.mounted(layers, draft, points) as root:
                    _run(root, block)
                draft.rename(layer)
            else:
                _say(suite, f"kept: {block.commands.strip()}")
            layers.append(layer)
        roots.leave_the_network()
        root = stack.enter_context(roots.mounted(layers, folder / "upper", points))
        try:
            for block in [block for block in page if block.kind == "offline"]:
                if "dcmsend" in block.commands:
                    _await_orthanc(suite)
                _run(root, block)
            _await_results(root, suite)
        finally:
            subprocess.run(roots.inside(root, ["service", "orthanc", "stop"]), env=roots.environment(), check=False)
    _say(suite, f"walked in {time.monotonic() - start:.0f} s")


def _run(root: Path, block: Block) -> None:
    shell = f"cd {CHECKOUT} && set -x && {block.commands}"
    roots.run(roots.inside(root, ["/bin/bash", "-euo", "pipefail", "-c", shell]), roots.environment())


def _say(suite: str, text: str) -> None:
    sys.stderr.write(f"== Debian {suite}: {text}\n")


def copy_checkout(target: Path, *, tests: bool = False) -> None:
    """Copy what git knows, or would take, as a clone would have it."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file() and (tests or not name.startswith("tests/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _digest(checkout: Path) -> bytes:
    """Return a digest of what is installed out of a checkout."""
    digest = hashlib.sha256()
    for name in ("orthanc_plugin", "models", "requirements", "scripts/python312", "pyproject.toml", "README.md"):
        at = checkout / name
        for file in sorted(p for p in at.rglob("*") if p.is_file()) if at.is_dir() else [at]:
            digest.update(str(file.relative_to(checkout)).encode() + file.read_bytes())
    return digest.digest()


def _uv_cache() -> roots.Point:
    folder = roots.cache() / "mounts" / "root-.cache-uv"
    folder.mkdir(parents=True, exist_ok=True)
    return roots.Point("/root/.cache/uv", ("--bind", str(folder)))


def _await_orthanc(suite: str) -> None:
    """Wait as long as a person needs to read on: Orthanc takes a few seconds to start."""
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 4242), 1):
            return
        if time.monotonic() > end:
            sys.exit(f"Debian {suite}: Orthanc does not answer")
        time.sleep(0.5)


def _await_results(root: Path, suite: str) -> None:
    """Ask with the page's last command until the job is done."""
    last = next(line for line in reversed(PAGE.read_text("utf-8").splitlines()) if "jobs list" in line)
    asked = roots.inside(root, ["/bin/bash", "-c", f"cd {CHECKOUT} && {last} --json"])
    end = time.monotonic() + JOB_S
    while True:
        done = subprocess.run(asked, env=roots.environment(), capture_output=True, text=True, check=False)
        jobs = json.loads(done.stdout) if done.returncode == 0 else []
        states = [job["state"] for job in jobs]
        if states == ["done"]:
            break
        if "failed" in states or time.monotonic() > end:
            log = root / "var/lib/orthanc-enrichment/service.log"
            sys.exit(f"Debian {suite}: {states} {done.stderr}\n{log.read_text()[-3000:] if log.exists() else 'no log'}")
        time.sleep(3)
    kinds = sorted({stored["kind"] for job in jobs for stored in job["objects"]})
    _say(suite, f"the phantom was enriched: {', '.join(kinds)}")


def main() -> None:
    """Walk on each system that is named, at the same time: most of it is waiting for Orthanc's StableAge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="+", metavar="SUITE", help="bookworm or trixie")
    parser.add_argument("--pip", action="store_true", help="the environment by pip in place of uv")
    options = parser.parse_args()
    roots.in_own_mounts()
    if len(options.suites) == 1:
        walk(options.suites[0], pip=options.pip)
        return
    words = [sys.executable, "-m", "scripts.walk", *(["--pip"] if options.pip else [])]
    logs = [tempfile.TemporaryFile("w+") for _ in options.suites]  # noqa: SIM115 (closed by the end)
    walks = [
        subprocess.Popen([*words, suite], stdout=log, stderr=log)
        for suite, log in zip(options.suites, logs, strict=True)
    ]
    codes = [process.wait() for process in walks]
    for log in logs:
        log.seek(0)
        sys.stderr.write(log.read())
    sys.exit(int(any(codes)))


if __name__ == "__main__":
    main()
