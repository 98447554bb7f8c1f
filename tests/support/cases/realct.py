"""Where the real CT lies. A developer without it skips those tests; CI may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def real_ct(name: str) -> Path:
    """Folder of one real data set, e.g. `cip_ct64/dicom`."""
    folder = Path(os.environ.get("ENRICH_TEST_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        message = f"no real CT at {folder}; set ENRICH_TEST_DATA to a folder that holds it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
