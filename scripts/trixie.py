"""Run tests under Debian 13: Orthanc 1.12.7, Python plugin 5.0, Python 3.13. Needs root.

Usage: python -m scripts.trixie [PYTEST ARGUMENTS] (`make test-trixie`)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts import images, roots
from scripts.walk import copy_checkout

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/unit/edge",
    "tests/unit/radiomics",
    "tests/integration/test_plugin_in_orthanc.py",
    "tests/integration/test_main_job.py",
    "tests/integration/test_cohort_archive.py",
)
"""What touches Orthanc itself, its interpreter, or what is compiled for this Python."""


def main() -> None:
    """Build the system, and run the tests in it without a network."""
    roots.in_own_mounts()
    start = time.monotonic()
    image = images.build(ROOT / "tests" / "trixie" / "Dockerfile", ROOT, {})
    with tempfile.TemporaryDirectory(prefix="enrichment-trixie-") as name:
        copy_checkout(Path(name) / "checkout", tests=True)
        points = [
            roots.Point("/src", ("--bind", f"{name}/checkout")),
            roots.Point("/tmp", ("-t", "tmpfs", "-o", "mode=1777", "tmpfs")),  # noqa: S108 (in the other system)
        ]
        with roots.mounted(image.layers, Path(name) / "upper", points) as root:
            roots.leave_the_network()
            words = sys.argv[1:] or ["-q", "-n", "1", "--dist", "loadfile", *TESTS]
            shell = 'cd /src && exec /opt/venv/bin/python -m pytest -p no:cacheprovider "$@"'
            env = roots.environment({"PYTHONPATH": "/src", **{k: os.environ[k] for k in ("CI",) if k in os.environ}})
            code = subprocess.run(
                roots.inside(root, ["/bin/sh", "-c", shell, "sh", *words]), env=env, check=False
            ).returncode
    sys.stderr.write(f"{time.monotonic() - start:.0f} s\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
