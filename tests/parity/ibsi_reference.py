"""The published values of IBSI 1, read from the tables of its reference manual (03_Image_features.rst)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import IBSI_TEXTURES, TEXTURES, RadiomicsSettings
from orthanc_plugin.radiomics.feature_codes import FEATURES
from tests.support.cases.realct import real_ct

_CODE = re.compile(r'<p style="color:grey[^>]*>(\w{4})</p>')
_WITHOUT_CODE = {"Small zone emphasis": "5QRC"}
"""A feature whose code the page leaves out; DICOM has it (PS3.16 CID 218, Small Zone Emphasis)."""
_MISPRINTED = {
    "10\\ :sup:`th` discretised intensity percentile": "GPMT",
    "90\\ :sup:`th` discretised intensity percentile": "OZ0C",
}
"""Titles under which the page prints the code of another feature, and their codes in DICOM (PS3.16 CID 218)."""
_OF_TABLE = {
    "volume fraction at 10% intensity": "NK6P",
    "volume fraction at 90% intensity": "4279",
    "intensity at 10% volume": "PWN1",
    "intensity at 90% volume": "BOHI",
    "volume fraction difference between 10% and 90% intensity": "WITY",
    "intensity difference between 10% and 90% volume": "JXJA",
}
"""Tables of a value that shares the code of its page with another, and its own code in IBSI's reference values."""
_TABLE = re.compile(r"\.\. table:: Reference values for the \*(.+?)\* feature")
_NUMBER = re.compile(r"(-?)\s*([\d.]+)(?:\s*\\times\s*10\^\{(-?\d+)\})?")
_DIRECTIONAL = ("glcm_", "glrlm_", "cooccurrence_")

Row = tuple[str, str]
"""Name of a feature, and its aggregation in the manual's words ("2D, averaged", "3D"); empty if it has none."""


@dataclass(frozen=True, slots=True)
class Published:
    """A consensus value; `tolerance` is at least half a unit of its last digit, for so far it is rounded."""

    value: float
    tolerance: float

    def matches(self, value: float) -> bool:
        return abs(value - self.value) <= self.tolerance * (1 + 1e-9)


def published(data: str) -> dict[Row, Published]:
    """Every value of `dig. phantom` or `config. A`, in the order of the manual."""
    names = {coded.concept.value: coded.name for coded in FEATURES if coded.concept.scheme == "IBSI"}
    rows = list(_rows(data))
    assert len(rows) > 200, f"the manual has no table of {data}"
    return {(names[code], aggregation): number for code, aggregation, number in rows}


def by_row(measured: Iterable[SegmentFeatures], settings: RadiomicsSettings) -> dict[Row, float]:
    """Sort the features of one segment by the manual's rows."""
    values: dict[Row, float] = {}
    for group in measured:
        aggregation = group.aggregation or settings.aggregations[0]
        for feature in group.features:
            family = feature.name.split("_")[0]
            if family not in TEXTURES + IBSI_TEXTURES:
                values[feature.name, ""] = feature.value
            elif feature.name.startswith(_DIRECTIONAL):
                values[feature.name, aggregation] = feature.value
            else:
                values.setdefault((feature.name, aggregation.split(",")[0]), feature.value)
    return values


def _rows(data: str) -> Iterator[tuple[str, str, Published]]:
    """Code, aggregation (if the feature has any) and value of each row of the data set."""
    code = misprinted = ""
    page = real_ct("ibsi_doc_reference") / "docs" / "03_Image_features.rst"
    for line in page.read_text(encoding="utf-8").splitlines():
        code = _WITHOUT_CODE.get(line, code)
        misprinted = _MISPRINTED.get(line, misprinted)
        if match := _CODE.search(line):
            code, misprinted = misprinted or match[1], ""
        if match := _TABLE.search(line):
            code = _OF_TABLE.get(match[1], code)
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) in (4, 5) and cells[0] == data and _NUMBER.search(cells[-3]):
            yield code, cells[1] if len(cells) == 5 else "", _published(cells[-3], cells[-2])


def _published(value: str, tolerance: str) -> Published:
    number = _decimal(value)
    half_digit = Decimal((0, (5,), int(number.as_tuple().exponent) - 1))
    stated = _decimal(tolerance) if _NUMBER.search(tolerance) else Decimal(0)
    return Published(float(number), float(max(half_digit, stated)))


def _decimal(text: str) -> Decimal:
    """`:math:`-`\\ 0.355` or `:math:`3.58 \\times 10^{5}`` as a number."""
    match = _NUMBER.search(text.replace(":math:", "").replace("`", "").replace("\\ ", ""))
    assert match, text
    sign, digits, exponent = match.groups()
    return Decimal(f"{sign}{digits}E{exponent or 0}")
