"""List what nothing in the package uses, and fail if there is any (`make check`).

Tests do not count as use. Fields and attributes do not count as code: serializers, templates and other libraries read
them by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vulture import Vulture

ROOT = Path(__file__).resolve().parents[1]
DECORATORS = ["@model_validator*", "@field_validator*", "@field_serializer*", "@DBOS.*"]
USED_ELSEWHERE = {
    "cancel": "the API will offer it",
    "capture_signals": "uvicorn calls it",
    "collect": "prometheus-client calls it",
    "find_class": "pickle calls it",
    "is_available": "pydicom asks a plugin for it",
    "preview_png": "tests look at the picture before it is encoded",
    "uri": "Orthanc passes it",
}


def main() -> int:
    """Print one line for each unused name; return the exit code."""
    scan = Vulture(ignore_names=list(USED_ELSEWHERE), ignore_decorators=DECORATORS)
    scan.scavenge([str(ROOT / "orthanc_plugin")])
    found = [
        item
        for item in scan.get_unused_code(min_confidence=60)
        if item.confidence == 100 or item.typ not in ("variable", "attribute")
    ]
    for item in found:
        print(item.get_report())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
