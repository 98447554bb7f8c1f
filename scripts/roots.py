"""Debian systems in folders: made once by debootstrap, used through layers that are thrown away.

A container engine is not needed: overlayfs gives each use its own layer, and chroot the view. This needs root.
The systems lie in `$ENRICHMENT_ROOTS`, or in the user's cache, and are made again when the file `.ready` is not there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_DEVICES = ("null", "zero", "full", "random", "urandom")
_CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin") or "chroot"
_CA_FILE = "/run/ca-of-this-machine.pem"
_NETWORK_VARIABLES = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "npm_config_registry",
)
_CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h; Python 3.11 has no os.unshare
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def in_own_mounts() -> None:
    """Run this program again where its mounts are seen by nobody else and end with it, and it sees no other program.

    Without processes of its own, `service orthanc stop` in a system could stop an Orthanc of this machine.
    """
    if os.geteuid() != 0:
        sys.exit(f"{Path(sys.argv[0]).name} mounts file systems and changes users: run it as root")
    if "ENRICHMENT_MOUNTS" in os.environ:
        return
    alone = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    command = ["unshare", *alone, sys.executable, *sys.orig_argv[1:]]
    os.execvpe(command[0], command, {**os.environ, "ENRICHMENT_MOUNTS": "own"})  # noqa: S606


def leave_the_network() -> None:
    """Give this program, and what it starts from now on, a network of its own that leads nowhere."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    run(["ip", "link", "set", "lo", "up"])


def cache() -> Path:
    """Return the folder of the systems and of the layers that are kept."""
    named = os.environ.get("ENRICHMENT_ROOTS")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else home / "orthanc-enrichment"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def debian(suite: str) -> Path:
    """Return a Debian system as small as an official image; make it if it does not exist."""
    root = cache() / f"debian-{suite}"
    if not (root / ".ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", suite, str(root), mirror()])
        sources = f"deb {mirror()} {suite} main\ndeb {mirror()} {suite}-updates main\n"
        sources += f"deb {mirror().removesuffix('/debian')}/debian-security {suite}-security main\n"
        (root / "etc/apt/sources.list").write_text(sources)
        (root / "etc/apt/apt.conf.d/no-recommends").write_text('APT::Acquire::Retries "3";\n')
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # as in official images: nothing starts
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        (root / ".ready").touch()
    return root


def mirror() -> str:
    """Return the Debian mirror of `$DEBIAN_MIRROR`, or the one that this system uses."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named.rstrip("/")
    asked = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    found = next((site.rstrip("/") for site in sites if site.rstrip("/").endswith("/debian")), None)
    if found is None:
        sys.exit("apt names no Debian mirror on this system: set DEBIAN_MIRROR to the address of one")
    return found


@dataclass(frozen=True, slots=True)
class Point:
    """Something to mount in a system. arguments: what `mount` gets before the target, the source last."""

    target: str
    arguments: tuple[str, ...]
    is_file: bool = False


@contextmanager
def mounted(
    layers: Sequence[Path], upper: Path, points: Iterable[Point] = (), *, read_only: bool = False
) -> Iterator[Path]:
    """Mount layers, the lowest first, with `upper` on top for what is written.

    Parameters
    ----------
    layers : sequence of Path
    upper : Path
        Created if it does not exist. What was written stays there.
    points : iterable of Point
        Mounted beside what every program expects to find.
    read_only : bool
        Whether nothing outside the points can be written.

    Yields
    ------
    Path
        The root of the mounted system.
    """
    work, root = upper.with_name(upper.name + ".work"), upper.with_name(upper.name + ".root")
    for folder in (upper, work, root):
        folder.mkdir(parents=True, exist_ok=True)
    lower = ":".join(str(layer) for layer in reversed(layers))
    with ExitStack() as stack:
        _mount(stack, root, "-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay")
        for point in (*_system_points(), *points):
            target = root / point.target.lstrip("/")
            (target.parent if point.is_file else target).mkdir(parents=True, exist_ok=True)
            if point.is_file and not target.exists():
                target.touch()
            _mount(stack, target, *point.arguments)
        if read_only:
            run(["mount", "-o", "remount,ro", str(root)])
        yield root
    shutil.rmtree(work, ignore_errors=True)
    root.rmdir()


def _system_points() -> Iterator[Point]:
    yield Point("proc", ("-t", "proc", "proc"))
    yield Point("dev/shm", ("-t", "tmpfs", "tmpfs"))
    for name in _DEVICES:
        yield Point(f"dev/{name}", ("--bind", f"/dev/{name}"), is_file=True)
    for target, source in (("etc/resolv.conf", "/etc/resolv.conf"), (_CA_FILE, "/etc/ssl/certs/ca-certificates.crt")):
        if Path(source).exists():
            yield Point(target, ("--bind", source), is_file=True)


def _mount(stack: ExitStack, target: Path, *arguments: str) -> None:
    run(["mount", *arguments, str(target)])
    stack.callback(run, ["umount", "--lazy", str(target)])


def inside(root: Path, command: Sequence[str], user: str = "0:0") -> list[str]:
    """Return the command line that runs a command in a system."""
    return [_CHROOT, f"--userspec={user}", "--groups=", str(root), *command]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a program in a system: of this machine it has only the way to the network."""
    passed = {name: os.environ[name] for name in _NETWORK_VARIABLES if name in os.environ}
    passed |= {name: _CA_FILE for name in _CA_VARIABLES if name in os.environ}
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **passed, **(more or {})}


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run a command; end this program if it fails."""
    done = subprocess.run(command, env=env, check=False)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: {' '.join(command)}")
