"""The published values of IBSI 1, read from the tables of its reference manual (03_Image_features.rst)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.radiomics.feature_codes import FEATURES
from tests.support.cases.realct import real_ct

_CODE = re.compile(r'<p style="color:grey[^>]*>(\w{4})</p>')
_WITHOUT_CODE = {"Small zone emphasis": "5QRC"}
"""A feature whose code the page leaves out; DICOM has it (PS3.16 CID 218, Small Zone Emphasis)."""
_NUMBER = re.compile(r"(-?)\s*([\d.]+)(?:\s*\\times\s*10\^\{(-?\d+)\})?")
_AGGREGATIONS = {False: ("3D", "3D, averaged"), True: ("2.5D", "2.5D, direction-merged")}


@dataclass(frozen=True, slots=True)
class Published:
    """A consensus value; `tolerance` is at least half a unit of its last digit, for so far it is rounded."""

    value: float
    tolerance: float

    def matches(self, value: float) -> bool:
        return abs(value - self.value) <= self.tolerance * (1 + 1e-9)


def published(data: str, settings: RadiomicsSettings) -> dict[str, Published]:
    """Value of each of pyradiomics' features for `dig. phantom` or `config. A`, aggregated as the settings say."""
    names = {coded.concept.value: coded.name for coded in FEATURES if coded.concept.scheme == "IBSI"}
    wanted = ("", *_AGGREGATIONS[settings.force_2d])
    rows = list(_rows(data))
    assert len(rows) > 150, f"the manual has no table of {data}"
    return {names[code]: number for code, aggregation, number in rows if code in names and aggregation in wanted}


def _rows(data: str) -> Iterator[tuple[str, str, Published]]:
    """Code, aggregation (if the feature has any) and value of each row of the data set."""
    code = ""
    page = real_ct("ibsi_doc_reference") / "docs" / "03_Image_features.rst"
    for line in page.read_text(encoding="utf-8").splitlines():
        code = _WITHOUT_CODE.get(line, code)
        if match := _CODE.search(line):
            code = match[1]
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
