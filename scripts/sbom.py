"""Write what is installed here, Python distributions and Debian packages, as a CycloneDX 1.6 document on stdout.

It uses the standard library only, so that an image can describe itself. `--licences` prints a table instead.
The document has no time and no random number: the same content gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from urllib.parse import quote

_UNSAID = ("", "UNKNOWN", "Dual License")


@dataclass(frozen=True, order=True)
class Component:
    """An installed package. licence: as its makers state it, empty if they do not."""

    kind: str
    name: str
    version: str
    licence: str = ""
    is_expression: bool = False

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:{self.kind}/{quote(self.name)}@{quote(self.version, safe='.+~')}"


def python_components() -> Iterator[Component]:
    """Yield the distributions of the environment that runs this script."""
    for distribution in distributions():
        expression = distribution.metadata.get("License-Expression", "")
        name = distribution.metadata["Name"].lower().replace("_", "-")
        yield Component(
            "pypi", name, distribution.version, expression or _stated_licence(distribution), bool(expression)
        )


def _stated_licence(distribution: Distribution) -> str:
    """Return the classifiers, or else the first line of the licence field, which may hold the whole text."""
    marks = [c for c in distribution.metadata.get_all("Classifier", []) if c.startswith("License :: ")]
    named = [mark.rpartition(" :: ")[2] for mark in marks if not mark.endswith(":: OSI Approved")]
    if named:
        return "; ".join(sorted(named))
    first = (distribution.metadata.get("License") or "").strip().partition("\n")[0][:80]
    return "" if first in _UNSAID else first


def debian_components() -> Iterator[Component]:
    """Yield Debian's installed packages; none on another system."""
    if shutil.which("dpkg-query") is None:
        return
    asked = ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${db:Status-Status}\n"]
    for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines():
        name, version, status = line.split("\t")
        if status == "installed":
            yield Component("deb/debian", name, version)


def document(name: str, components: list[Component]) -> dict[str, object]:
    """Return the document; its serial number is that of its content."""
    entries = [_entry(component) for component in components]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([name, *entries]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "bom-ref": name}},
        "components": entries,
    }


def _entry(component: Component) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
    }
    if component.is_expression:
        entry["licenses"] = [{"expression": component.licence}]
    elif component.licence:
        entry["licenses"] = [{"license": {"name": component.licence}}]
    return entry


def main() -> None:
    """Print the document, or the table of licences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="orthanc-enrichment", help="what the document describes")
    parser.add_argument("--python-only", action="store_true", help="leave Debian's packages out")
    parser.add_argument("--licences", action="store_true", help="print name, version and licence as Markdown")
    options = parser.parse_args()
    components = sorted({*python_components(), *(() if options.python_only else debian_components())})
    if options.licences:
        rows = [f"| {c.name} | {c.version} | {c.licence or 'not stated'} |" for c in components if c.kind == "pypi"]
        sys.stdout.write("\n".join(["| package | version | licence |", "|---|---|---|", *rows, ""]))
    else:
        json.dump(document(options.name, components), sys.stdout, indent=1)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
