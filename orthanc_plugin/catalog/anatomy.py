"""Look up what a segment says of a structure (label, codes, colour) by the name that a published model gives it.

The table (anatomy.csv) holds the labels of SegTHOR, all classes of TotalSegmentator's task `total` and a few more.
Its codes are those of pydicom's dictionaries. docs/models.md lists the few that pydicom does not know; a test compares
the table with the dictionaries and that list.
"""

from __future__ import annotations

import colorsys
import csv
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import ConfigDict, TypeAdapter, ValidationError

from orthanc_plugin.catalog.reader import in_plain_words
from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, BILATERAL, LEFT, RIGHT, TISSUE, Code
from orthanc_plugin.domain.masks import Colour, Key, Label
from orthanc_plugin.errors import ModelError

_TABLE = Path(__file__).with_name("anatomy.csv")
_MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_CATEGORIES = {code.meaning: code for code in (ANATOMICAL_STRUCTURE, TISSUE, _MORPHOLOGICALLY_ABNORMAL)}
_MODIFIERS = {"": None} | {code.meaning: code for code in (LEFT, RIGHT, BILATERAL)}

LABELS_OF_TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"Task055_SegTHOR": ("esophagus", "heart", "trachea", "aorta")}
)
"""Names of labels 1, 2, ... of published nnU-Net v1 tasks: v1 stores no names with its weights."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a segment says of its structure. key: its name in rules, API and tables; colour: sRGB."""

    key: Key
    label: Label
    category: Code
    type: Code
    modifier: Code | None
    colour: Colour


def key_of(name: str) -> str:
    """Make a key of a label: small letters, digits and `_`, a letter first (`vertebrae_L1`: `vertebrae_l1`)."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return key if key[:1].isalpha() else f"label_{key}"


@cache
def known() -> Mapping[str, Anatomy]:
    """Read the table; its structures by key."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = [_from_row(row) for row in csv.DictReader(file)]
    return MappingProxyType({row.key: row for row in rows})


def _from_row(row: Mapping[str, str]) -> Anatomy:
    kind = Code(row["type"], "SCT", row["meaning"])
    red, green, blue = bytes.fromhex(row["colour"].removeprefix("#"))
    modifier = _MODIFIERS[row["modifier"]]
    return Anatomy(key_of(row["name"]), row["label"], _CATEGORIES[row["category"]], kind, modifier, (red, green, blue))


def codes_of(names: Iterable[str], mapping: Mapping[str, Anatomy]) -> tuple[Anatomy, ...]:
    """Find what a segment says of each label of a model.

    Parameters
    ----------
    names : iterable of str
        Labels as the model names them.
    mapping : mapping of str to Anatomy
        The user's, from `read_mapping`; it comes before the table.

    Returns
    -------
    tuple of Anatomy
        In the order of the labels.

    Raises
    ------
    ModelError
        If some labels have no code (all of them are named), or two would get the same key or label.
    """
    found = [(name, mapping.get(name) or _structure(name)) for name in names]
    missing = [name for name, anatomy in found if anatomy is None]
    if missing:
        raise ModelError(
            f"no code for {', '.join(missing)}; give one for each in a mapping file (--labels FILE, see docs/models.md)"
        )
    _refuse_alike(found)
    return tuple(anatomy for _, anatomy in found if anatomy is not None)


def _structure(name: str) -> Anatomy | None:
    """Look a name up in the table; its side may come first (`Right Kidney`)."""
    key = key_of(name)
    return known().get(key) or known().get(re.sub(r"^(left|right)_(.+)$", r"\2_\1", key))


def _refuse_alike(found: Iterable[tuple[str, Anatomy | None]]) -> None:
    """Refuse equal keys or labels: the label alone identifies a stored segment."""
    seen: dict[str, str] = {}
    for name, anatomy in found:
        for text in (f"key {anatomy.key}", f"label {anatomy.label}") if anatomy else ():
            if (other := seen.setdefault(text, name)) != name:
                raise ModelError(
                    f"{other} and {name} have the same {text}; give each a 'key' and 'label' of its own (--labels FILE)"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A label in the user's mapping."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    type: Code
    key: Key | None = None
    label: Label | None = None
    category: Code | None = None
    modifier: Code | None = None
    colour: Colour | None = None


_MAPPING: TypeAdapter[dict[str, str | _Entry]] = TypeAdapter(dict[str, str | _Entry])


def read_mapping(path: Path) -> Mapping[str, Anatomy]:
    """Read the user's mapping: a JSON object of label names, each with codes or the name of a structure in the table.

    Raises
    ------
    ModelError
        Naming the file, the label and what is wrong with it.
    """
    try:
        entries = _MAPPING.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[-1]
        where = ": ".join(str(part) for part in detail["loc"] if part not in ("str", "_Entry"))
        raise ModelError(f"{path}: {where}: {in_plain_words(detail)}; docs/models.md has the format") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}); it must be a JSON file") from error
    return {name: _mapped(path, name, entry) for name, entry in entries.items()}


def _mapped(path: Path, name: str, entry: str | _Entry) -> Anatomy:
    if isinstance(entry, str):
        if (anatomy := _structure(entry)) is None:
            raise ModelError(f"{path}: {name}: {entry!r} is not a structure of the table; give its codes")
        return anatomy
    codes = (entry.category or ANATOMICAL_STRUCTURE, entry.type, entry.modifier)
    for code in codes:
        if code and (problem := _problem(code)):
            raise ModelError(f"{path}: {name}: {code.scheme} {code.value} {problem}")
    key = entry.key or key_of(name)
    label = entry.label or name.replace("_", " ").capitalize()[:64]
    return Anatomy(key, label, *codes, entry.colour or _colour(key))


def _problem(code: Code) -> str:
    if code.scheme == "SRT":
        return "uses a retired scheme; give the SNOMED CT code (scheme SCT)"
    if code.scheme == "SCT" and not is_snomed_concept(code.value):
        return "is not a SNOMED CT concept (its partition or check digit is wrong); look for a typing error"
    return ""


def _colour(key: str) -> tuple[int, int, int]:
    """Choose a colour; the same key always gets the same one."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(key.encode()) / 2**32, 0.6, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def is_snomed_concept(value: str) -> bool:
    """Check that a number names a SNOMED CT concept: 6 to 18 digits, partition 00 or 10, then Verhoeff's check digit.

    Source
    ------
    SNOMED CT Release File Specifications, "SCTID representation" (check digit: Verhoeff, dihedral group D5).
    """
    if not re.fullmatch(r"[1-9][0-9]{2,14}[01]0[0-9]", value):
        return False
    check = 0
    for place, digit in enumerate(int(character) for character in reversed(value)):
        check = _joined(check, _permuted(digit, place))
    return check == 0


def _joined(first: int, second: int) -> int:
    """Multiply in D5: 0 to 4 are rotations, 5 to 9 reflections."""
    turn = (first + second) % 5 if first < 5 else (first - second) % 5
    return turn + 5 * ((first < 5) != (second < 5))


def _permuted(digit: int, times: int) -> int:
    for _ in range(times % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
