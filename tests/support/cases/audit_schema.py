"""The schema of audit messages, asked by xmllint."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SCHEMA = Path(__file__).with_name("audit_message.rng")


def faults(messages: Sequence[str], folder: Path) -> list[str]:
    """What the schema of PS3.15 A.5.1.1 says against messages; empty if they are valid."""
    if shutil.which("xmllint") is None:
        assert "CI" not in os.environ, "scripts/install-system libxml2-utils"
        pytest.skip("xmllint is not installed")
    files = []
    for number, message in enumerate(messages):
        files.append(folder / f"message-{number}.xml")
        files[-1].write_text(message, encoding="utf-8")
    command = ["xmllint", "--nonet", "--noout", "--relaxng", str(SCHEMA), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()
    assert len([line for line in said if line.endswith((" validates", " fails to validate"))]) == len(files), said
    return [line for line in said if not line.endswith(" validates")]
