"""What `orthanc-enrich setup` finds beside an Orthanc, and which values of its files it would change."""

from __future__ import annotations

import grp
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthanc_plugin.config.orthanc import is_exposed
from orthanc_plugin.config.orthanc_json import read_orthanc_json
from orthanc_plugin.config.sections import SECTION
from orthanc_plugin.errors import ConfigError

FILE = "enrichment.json"
ACCOUNT = "enrichment"
OLDEST = (1, 10, 1)
DEBIANS_SAMPLE = "/etc/orthanc/sample.py"
_LIBRARIES = ("libOrthancPython.so", "libOrthancDicomWeb.so")
_PORT = 8043


@dataclass(frozen=True, slots=True)
class Finding:
    """One prerequisite. remedy: what to do if it is not met; needed: whether setup goes on without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """One value of one file. why: for people; value: None removes it; secret: the value is shown to nobody."""

    file: Path
    path: tuple[str, ...]
    value: Any
    why: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """An Orthanc and what is to work beside it. folder: of Orthanc's settings; user: as whom Orthanc runs."""

    folder: Path
    state_directory: Path
    python: Path
    user: str
    person: str

    def document(self) -> dict[str, Any]:
        """Read the settings as they are; raise ConfigError if Orthanc could not read them either."""
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is not a folder: --config names the folder of Orthanc's settings")
        return read_orthanc_json(self.folder, os.environ)[0]

    @property
    def plugin(self) -> Path:
        """The plugin's script in the environment."""
        return Path(__file__).resolve().parents[1] / "edge" / "plugin.py"

    def file_of(self, key: str) -> Path:
        """Return the file that has a key; the file of setup if none has it."""
        for file in sorted(self.folder.glob("*.json")):
            if key in read_orthanc_json(file, os.environ)[0]:
                return file
        return self.folder / FILE


def findings(site: Site, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Check every prerequisite."""
    yield _orthanc()
    yield from _libraries(document)
    yield _script(site, document)
    yield from _user(site)
    yield _one_runtime()
    if SECTION not in document:
        yield _port()
    free = shutil.disk_usage(next(p for p in (site.state_directory, *site.state_directory.parents) if p.exists())).free
    text = f"{free / 2**30:.1f} GiB free at {site.state_directory}"
    yield Finding("disk", free > 2**30, text, "at least 1 GiB for jobs and logs", needed=False)


def _orthanc() -> Finding:
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    remedy = "apt install orthanc orthanc-python orthanc-dicomweb"
    if program is None:
        return Finding("orthanc", False, "the program Orthanc is not there", remedy)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return Finding("orthanc", True, f"{program}, of a version that it does not tell", needed=False)
    version = tuple(int(number) for number in found.groups())
    return Finding("orthanc", version >= OLDEST, f"{program} {found[0]}", "Orthanc 1.10.1 or newer")


def _libraries(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether each plugin is there, loaded by name or by the folder that it lies in."""
    loaded = [Path(str(entry)) for entry in document.get("Plugins", [])]
    for library in _LIBRARIES:
        at = [path if path.name == library else path / library for path in loaded]
        found = next((path for path in at if path.exists()), None)
        package = "orthanc-python" if "Python" in library else "orthanc-dicomweb"
        detail = str(found) if found else f"{library} is in none of the folders that Plugins names"
        yield Finding(library, found is not None, detail, f"apt install {package}, and name it in Plugins")


def _script(site: Site, document: Mapping[str, Any]) -> Finding:
    script = str(document.get("PythonScript", ""))
    ours = script in ("", DEBIANS_SAMPLE, str(site.plugin)) or script.endswith("orthanc_plugin/edge/plugin.py")
    detail = f"PythonScript is {script or 'not set'}"
    return Finding(
        "script", ours, detail, "Orthanc loads one script only: import that one's code into yours, or drop it"
    )


def _user(site: Site) -> Iterator[Finding]:
    try:
        user = pwd.getpwnam(site.user)
    except KeyError:
        yield Finding("user", False, f"there is no user {site.user}", "--user names the one as whom Orthanc runs")
        return
    yield Finding("user", True, f"{site.user} ({user.pw_uid})")
    try:
        tried = subprocess.run(
            [site.python, "-P", "-c", "import orthanc_plugin.config.read"], capture_output=True, text=True, check=False,
            user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", env={"PATH": "/usr/bin:/bin"}, timeout=120,
        )  # fmt: skip
        wrong = tried.stderr.strip().rpartition("\n")[2] if tried.returncode else ""
    except (PermissionError, OSError) as error:
        wrong = str(error)
    detail = (
        f"{site.python} runs as {site.user}" if not wrong else f"{site.python} does not run as {site.user}: {wrong}"
    )
    remedy = "install into a folder that everybody may read, such as /opt; not below /root or /home"
    yield Finding("python", not wrong, detail, remedy)


def _one_runtime() -> Finding:
    from importlib.metadata import distributions

    found = sorted({d.metadata["Name"] for d in distributions() if d.metadata["Name"].startswith("onnxruntime")})
    return Finding(
        "runtime", len(found) == 1, ", ".join(found) or "none", "install exactly one of the extras cpu and gpu"
    )


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _PORT))
        except OSError as error:
            return Finding(
                "port", False, f"port {_PORT}: {error.strerror}", "set Service.Port after setup", needed=False
            )
    return Finding("port", True, f"port {_PORT} is free")


def changes(site: Site, document: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what is to be written so that Orthanc loads the plugin; nothing that is so already."""
    if document.get("PythonScript") != str(site.plugin):
        yield Change(site.file_of("PythonScript"), ("PythonScript",), str(site.plugin), "the plugin")
    if "Python" not in document:
        yield Change(site.folder / FILE, ("Python",), {"AllowThreads": True}, "needed from Python plugin 4.3 on")
    elif isinstance(document["Python"], dict) and document["Python"].get("AllowThreads") is not True:
        yield Change(site.file_of("Python"), ("Python", "AllowThreads"), True, "needed from Python plugin 4.3 on")
    if document.get("AuthenticationEnabled") is not True:
        why = "nobody is asked for a password now" if is_exposed(document) else "without it accounts have no effect"
        yield Change(site.file_of("AuthenticationEnabled"), ("AuthenticationEnabled",), True, why)
    host = document.get("DicomWeb", {}).get("Host") if isinstance(document.get("DicomWeb"), dict) else None
    if host in ("localhost", "127.0.0.1"):
        why = f"as {host} it makes addresses that other computers cannot follow; without it Orthanc takes the caller's"
        yield Change(site.file_of("DicomWeb"), ("DicomWeb", "Host"), None, why)
    yield from _accounts(site, document)


def _accounts(site: Site, document: Mapping[str, Any]) -> Iterator[Change]:
    users = document.get("RegisteredUsers") or {}
    file = site.file_of("RegisteredUsers")
    if not [name for name in users if name != ACCOUNT]:
        password = secrets.token_urlsafe(18)
        yield Change(file, ("RegisteredUsers", site.person), password, "a person's account: there is none", secret=True)
    password = users.get(ACCOUNT) or secrets.token_urlsafe(24)
    if ACCOUNT not in users:
        yield Change(file, ("RegisteredUsers", ACCOUNT), password, "the account of service and workers", secret=True)
    if SECTION not in document:
        section = {
            "Service": {"Python": str(site.python)},
            "StateDirectory": str(site.state_directory),
            "Archives": {"local": {"User": ACCOUNT, "Password": password}},
        }
        yield Change(site.folder / FILE, (SECTION,), section, "docs/configuration.md explains its keys", secret=True)


def group_of(user: str) -> str:
    """Return the name of a user's group."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def default_python() -> Path:
    """Return the interpreter of the environment that runs this command."""
    return Path(sys.prefix) / "bin" / "python"
