"""Run the containers of docker/compose.yaml without an engine, and have them enrich a phantom.

The images are built by `scripts/images.py`. Each container is a chroot with the user, the read-only root, the temporary
folders, the secrets and the health check that compose.yaml states; all share one network that leads nowhere. PostgreSQL
is this system's, since its image is not built here; Prometheus and Grafana do not run. Needs root.

Usage: python -m scripts.stack (`make try-containers`)
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from scripts import images, roots

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "docker" / "compose.yaml"
SET = {"STABLE_AGE": "2"}
"""Variables that a person may set in the environment of `docker compose`."""
STARTED = ("orthanc", "service", "worker")
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
HEALTHY_S, JOB_S = 120.0, 180.0
NAMES = "127.0.0.1 localhost orthanc service worker database\n"


def compose() -> dict[str, Any]:
    """Return compose.yaml with the values of its variables."""
    text = _VARIABLE.sub(lambda match: SET.get(match[1], match[2]), COMPOSE.read_text(encoding="utf-8"))
    document: dict[str, Any] = yaml.safe_load(text)
    return document


class Container:
    """One service of compose.yaml, started in its image."""

    def __init__(self, name: str, stack: ExitStack, folder: Path) -> None:
        document = compose()
        self.name, self._folder = name, folder / name
        self._settings: Mapping[str, Any] = document["services"][name]
        self._document = document
        build = self._settings["build"]
        self.image = images.build(COMPOSE.parent / build["context"] / build["dockerfile"], ROOT, build["args"])
        points = list(self._points())
        layers = self.image.layers
        self.root = stack.enter_context(
            roots.mounted(layers, self._folder / "layer", points, read_only=self._settings["read_only"])
        )
        self._process: subprocess.Popen[bytes] | None = None
        stack.callback(self.stop)

    def _points(self) -> Iterator[roots.Point]:
        hosts = self._folder / "hosts"
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text(NAMES)
        yield roots.Point("/etc/hosts", ("--bind", str(hosts)), is_file=True)
        for text in self._settings["tmpfs"]:
            target, _, options = text.partition(":")
            yield roots.Point(target, ("-t", "tmpfs", "-o", options or "rw", "tmpfs"))
        for secret in self._settings["secrets"]:
            file = COMPOSE.parent / self._document["secrets"][secret]["file"]
            yield roots.Point(f"/run/secrets/{secret}", ("--bind", str(file)), is_file=True)
        for entry in self._settings["configs"]:
            file = COMPOSE.parent / self._document["configs"][entry["source"]]["file"]
            yield roots.Point(entry["target"], ("--bind", str(file)), is_file=True)
        for text in self._settings["volumes"]:
            yield self._volume(text)

    def _volume(self, text: str) -> roots.Point:
        """Return a volume, which begins with the owner and mode that the image has in its place, as in an engine."""
        parts = text.split(":")
        source, target = (
            (parts[0], parts[1]) if len(parts) > 1 else (f"{self.name}{parts[0].replace('/', '-')}", parts[0])
        )
        volume = self._folder.parent / "volumes" / source
        if not volume.exists():
            volume.mkdir(parents=True)
            for layer in reversed(self.image.layers):
                if (place := layer / target.lstrip("/")).is_dir():
                    shutil.copystat(place, volume)
                    os.chown(volume, place.stat().st_uid, place.stat().st_gid)
                    break
        return roots.Point(target, ("--bind", *(["-o", "ro"] if parts[-1] == "ro" else []), str(volume)))

    def _command(self, words: tuple[str, ...], user: str = "") -> list[str]:
        shell = f'cd {shlex.quote(self.image.directory)} && exec "$@"'
        return roots.inside(self.root, ["/bin/sh", "-c", shell, "sh", *words], user or self._settings["user"])

    def _environment(self) -> dict[str, str]:
        given = {name: str(value) for name, value in self._settings.get("environment", {}).items()}
        return {"PATH": roots.PATH, **self.image.environment, **given}

    def start(self) -> None:
        """Start the command of the container, and wait until its health check is content."""
        words = (*self.image.entrypoint, *(self._settings.get("command") or self.image.command))
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(words), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        check = tuple(self._settings.get("healthcheck", {}).get("test", ())[1:]) or self.image.health
        end = time.monotonic() + HEALTHY_S
        while self.run(check):
            if self._process.poll() is not None or time.monotonic() > end:
                self._give_up("is not healthy")
            time.sleep(1)
        sys.stderr.write(f"{self.name} is healthy\n")
        self._check_process()

    def run(self, words: tuple[str, ...], user: str = "") -> int:
        """Run a command in the container, as `docker exec` does, and return its exit code."""
        done = subprocess.run(self._command(words, user), env=self._environment(), capture_output=True, check=False)
        return done.returncode

    def _check_process(self) -> None:
        """Check that it runs as the user of compose.yaml, and that not even root could write to its image."""
        pid = self._process.pid if self._process else 0
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        users = re.findall(r"^[UG]id:\s+(.*)$", status, re.MULTILINE)
        if {number for line in users for number in line.split()} != set(self._settings["user"].split(":")):
            self._give_up(f"runs as {users}")
        if not self.run(("/bin/sh", "-c", "echo x > /etc/x"), user="0:0"):
            self._give_up("has a root that can be written")

    def _give_up(self, why: str) -> None:
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
        sys.exit(f"{self.name} {why}\n{log}")

    def stop(self) -> None:
        """Stop it as an engine does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def postgresql(folder: Path) -> Iterator[None]:
    """Run this system's PostgreSQL where compose.yaml has its image."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    password = COMPOSE.parent / compose()["secrets"]["database_password"]["file"]
    data, log = folder / "data", folder / "log"
    folder.mkdir()
    shutil.copy(password, folder / "password")
    for path in (folder, folder / "password"):
        shutil.chown(path, "postgres", "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    initdb = [f"{programs}/initdb", "-D", str(data), "-U", "enrichment", "-A", "scram-sha-256", "--no-sync"]
    roots.run([*as_postgres, *initdb, f"--pwfile={folder}/password", "--locale=C.UTF-8"])
    control = [*as_postgres, f"{programs}/pg_ctl", "-D", str(data), "-l", str(log), "-w"]
    roots.run([*control, "start", "-o", f"-k {folder} -c fsync=off"])
    try:
        text = password.read_text(encoding="utf-8").strip()
        create = ["psql", "-h", "127.0.0.1", "-U", "enrichment", "postgres", "-qc", "CREATE DATABASE enrichment"]
        roots.run(create, {**os.environ, "PGPASSWORD": text})
        yield
    finally:
        roots.run([*control, "stop", "-m", "fast"])


def enrich_a_phantom(worker: Container) -> None:
    """Send a phantom to Orthanc as a modality would, and wait until its results are there."""
    password = (COMPOSE.parent / "secrets" / "admin_password").read_text(encoding="utf-8").strip()
    phantom = Path(tempfile.mkdtemp()) / "ct"
    roots.run([sys.executable, "-m", "orthanc_plugin.cli", "phantom", "--out", str(phantom)])
    client = httpx.Client(auth=("admin", password), timeout=60, trust_env=False)
    for file in sorted(phantom.rglob("*.dcm")):
        client.post("http://127.0.0.1:8042/instances", content=file.read_bytes()).raise_for_status()
    shutil.rmtree(phantom.parent)
    end = time.monotonic() + JOB_S
    while True:
        jobs = client.get("http://127.0.0.1:8043/enrichment/api/v1/jobs").raise_for_status().json()["jobs"]
        states = [job["state"] for job in jobs]
        if states == ["done"]:
            break
        if time.monotonic() > end or "failed" in states:
            worker._give_up(f"enriched nothing: {json.dumps(jobs)[:2000]}")
        time.sleep(2)
    found = {client.get(f"http://127.0.0.1:8042/series/{s}").json()["MainDicomTags"]["Modality"] for s in client.get(
        "http://127.0.0.1:8042/series").json()}  # fmt: skip
    if found != {"CT", "SEG", "SR"}:
        sys.exit(f"Orthanc holds {sorted(found)}")
    viewer = client.get("http://127.0.0.1:8043/viewer")
    sys.stderr.write(
        f"a phantom was enriched: Orthanc holds {', '.join(sorted(found))}; OHIF answers {viewer.status_code}\n"
    )


def main() -> None:
    """Build the images, start the containers, enrich a phantom, stop."""
    roots.in_own_mounts()
    roots.run([str(COMPOSE.parent / "make-secrets")])
    start = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enrichment-stack-")))
        folder.chmod(0o755)
        containers = [Container(name, stack, folder) for name in STARTED]
        built_s = time.monotonic() - start
        roots.leave_the_network()
        stack.enter_context(postgresql(folder / "postgresql"))
        for container in containers:
            container.start()
        enrich_a_phantom(containers[-1])
        for container in reversed(containers):
            container.stop()
    sys.stderr.write(f"{built_s:.0f} s for the images, {time.monotonic() - start:.0f} s in all\n")


if __name__ == "__main__":
    main()
