"""Write docs/operations/licences.md: the licence of every pinned distribution of requirements/cpu.txt.

Usage: python -m scripts.licences (`make docs-tables`). A test fails while the page is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from scripts.sbom import python_components

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations" / "licences.md"
LOOKED_AT = {
    "psycopg": "LGPL: used as a library, unchanged",
    "psycopg-binary": "LGPL: used as a library, unchanged",
    "connected-components-3d": "LGPL: used as a library, unchanged",
    "ruamel-yaml": "MIT, by its file LICENSE",
    "certifi": "MPL: a list of certificates, unchanged",
}
"""Why a licence that asks for more than a notice goes with the AGPL of this project."""
_FREE = re.compile("MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Zlib|HPND|CMU|Unlicense|Public Domain", re.I)


def pinned() -> list[str]:
    """Return the names of what is installed for users."""
    text = (ROOT / "requirements" / "cpu.txt").read_text(encoding="utf-8")
    return re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Return name, licence as its makers state it, and our remark; an unknown kind has no remark."""
    stated = {component.name: component.licence for component in python_components()}
    found = []
    for name in pinned():
        licence = stated.get(name, "")
        remark = LOOKED_AT.get(name, "asks for a notice" if _FREE.search(licence) else "")
        found.append((name, licence or "not stated", remark))
    return found


def page() -> str:
    """Return the whole page."""
    table = "\n".join(f"| {name} | {licence} | {remark} |" for name, licence, remark in rows())
    return f"""<!-- Written by scripts/licences.py from the installed packages: run `make docs-tables`. -->
# Licences

What users install beside this project (`requirements/cpu.txt`), with the licence that its makers state. All of it goes
with AGPL-3.0-or-later. `scripts/sbom.py --licences` prints the same for the environment that it runs in, with versions.

| distribution | licence | remark |
|---|---|---|
{table}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
