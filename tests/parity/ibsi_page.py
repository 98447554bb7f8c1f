"""Write docs/radiomics-ibsi.md: `python -m tests.parity.ibsi_page` (`make ibsi-tables`). A test fails while stale.

The digital phantom comes from the folder of ENRICH_TEST_DATA. Where IBSI_CT_PHANTOM names the CT phantom, which cannot
be shipped, its five configurations are measured too and written below the others (see `ibsi_ct`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from orthanc_plugin.radiomics.feature_codes import FEATURES
from tests.parity.ibsi_ct import CONFIGURATIONS, DIGITAL_PHANTOM, VARIABLE, measured, read_digital_phantom, read_phantom
from tests.parity.ibsi_reference import Published, Row, published
from tests.parity.marks import PAGE, with_part

_BEGIN, _END = "<!-- begin: written by tests/parity/ibsi_page.py -->\n", "<!-- end -->\n"
_CT_BEGIN, _CT_END = "<!-- begin CT: written by tests/parity/ibsi_page.py -->\n", "<!-- end CT -->\n"
_CODES = {coded.name: coded.concept.value for coded in FEATURES}


def main() -> None:
    """Write the tables of what can be measured here."""
    text = with_part(PAGE.read_text(), digital_phantom(), _BEGIN, _END)
    if VARIABLE in os.environ:
        text = with_part(text, ct_phantom(Path(os.environ[VARIABLE])), _CT_BEGIN, _CT_END)
    PAGE.write_text(text)


def digital_phantom() -> str:
    """Return the table of the digital phantom, one row for each published value."""
    return table(published("dig. phantom"), measured(*read_digital_phantom(), DIGITAL_PHANTOM))


def ct_phantom(folder: Path) -> str:
    """Return one table for each configuration of the CT phantom."""
    volume, segmentation = read_phantom(folder)
    return "\n".join(
        f"### Configuration {letter}\n\n"
        + table(published(f"config. {letter}"), measured(volume, segmentation, settings))
        for letter, settings in CONFIGURATIONS.items()
    )


def table(expected: Mapping[Row, Published], values: Mapping[Row, float]) -> str:
    """Compare values with the published ones: a count, and a row for each."""
    held = sum(row in values and one.matches(values[row]) for row, one in expected.items())
    lines = [
        f"{held} of {len(expected)} published values are held.\n",
        "| feature | IBSI | aggregation | value | published | tolerance | held |",
        "|---|---|---|---|---|---|---|",
        *_rows(expected, values),
    ]
    return "\n".join(lines) + "\n"


def _rows(expected: Mapping[Row, Published], values: Mapping[Row, float]) -> Iterator[str]:
    for (name, aggregation), one in expected.items():
        value = values.get((name, aggregation))
        shown = "none" if value is None else f"{value:.5g}"
        held = "yes" if value is not None and one.matches(value) else "**no**"
        cells = (f"`{name}`", f"`{_CODES[name]}`", aggregation, shown, f"{one.value:g}", f"{one.tolerance:g}", held)
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
