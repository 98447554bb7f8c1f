"""Describe the computer of a measurement."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

_GIB = 2**30


def machine() -> str:
    """Describe this computer in plain words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    system = platform.freedesktop_os_release()["PRETTY_NAME"].split(" (")[0]
    orthanc = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    said = subprocess.run([orthanc, "--version"], capture_output=True, text=True, check=False).stdout if orthanc else ""
    version = said.split()[1] if said else "unknown"
    python = platform.python_version()
    return f"{os.cpu_count()} CPU cores, {memory:.0f} GiB, {system}, Python {python}, Orthanc {version}"
