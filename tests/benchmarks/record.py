"""What a result names beside its figures: machine, versions and commit."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.support.machine import machine

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "openvino", "numpy", "scipy", "pydicom", "highdicom", "pyradiomics",
    "SimpleITK", "nnunetv2", "nnunet", "torch", "bpreg", "pictologics", "mirp",
)  # fmt: skip


def about_machine() -> dict[str, Any]:
    """Name the machine, the versions that matter, the commit and the time."""
    return {
        "machine": machine(),
        "python": sys.version.split()[0],
        "versions": versions(),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return the versions of installed packages that speed depends on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
