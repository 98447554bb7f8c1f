"""The table of structures: every code is what pydicom says it is, and a user's mapping is read strictly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from orthanc_plugin.catalog.anatomy import (
    LABELS_OF_TASKS,
    Anatomy,
    codes_of,
    is_snomed_concept,
    key_of,
    known,
    read_mapping,
)
from orthanc_plugin.catalog.totalsegmentator import TASKS
from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LEFT, RIGHT, Code
from orthanc_plugin.errors import ModelError
from tests.support.cases.realct import ROOT

TABLE = tuple(known().values())
GLAND = {"type": {"scheme": "SCT", "value": "69748006", "meaning": "Thyroid"}}


def code_of(name: str, mapping: Mapping[str, Anatomy]) -> Anatomy:
    return codes_of([name], mapping)[0]


def meanings() -> dict[tuple[str, str], set[str]]:
    """What pydicom calls each code, names of SNOMED CT without their semantic tag."""
    found: dict[tuple[str, str], set[str]] = {}
    dictionaries: dict[str, dict[str, dict[str, tuple[str, object]]]] = concepts  # type: ignore[assignment]
    for scheme, names in dictionaries.items():
        for codes in names.values():
            for value, (meaning, _) in codes.items():
                plain = meaning.removesuffix(" (body structure)").removesuffix(" structure")
                found.setdefault((scheme, value), set()).update({meaning, plain})
    return found


def beyond_pydicom() -> set[str]:
    section = (ROOT / "docs" / "models.md").read_text().partition("### Codes that pydicom does not list\n")[2]
    return {cell.split("|")[1].strip() for cell in section.partition("\n#")[0].splitlines() if cell.startswith("| ")}


def test_every_code_is_what_pydicom_says_or_listed_in_the_docs() -> None:
    theirs = meanings()
    unknown = set()
    for anatomy in TABLE:
        for code in (anatomy.category, anatomy.type, anatomy.modifier):
            if code is None:
                continue
            assert code.scheme == "SCT"
            assert is_snomed_concept(code.value), code
            if (code.scheme, code.value) in theirs:
                assert code.meaning in theirs[code.scheme, code.value], code
            else:
                unknown.add(code.value)
    assert unknown == beyond_pydicom() - {"code", ":--", "---"}


def test_no_two_structures_look_alike() -> None:
    told = Counter((anatomy.type.value, anatomy.modifier) for anatomy in TABLE)
    assert [pair for pair, times in told.items() if times > 1] == []
    assert len({anatomy.label for anatomy in TABLE}) == len(TABLE)
    assert all(len(anatomy.label) <= 64 for anatomy in TABLE)
    colours = [anatomy.colour for anatomy in codes_of(TASKS["total"].classes, {})]
    assert len(set(colours)) == len(colours)


def test_all_labels_of_segthor_and_of_total_have_codes() -> None:
    assert [a.type.value for a in codes_of(LABELS_OF_TASKS["Task055_SegTHOR"], {})] == [
        "32849002",
        "80891009",
        "44567001",
        "15825003",
    ]
    assert len(codes_of(TASKS["total"].classes, {})) == 117


@pytest.mark.parametrize("name", [name for name in TASKS["total"].classes if "left" in name or "right" in name])
def test_modifier_or_type_states_the_side(name: str) -> None:
    anatomy = code_of(name, {})
    side = LEFT if "left" in name else RIGHT
    assert anatomy.modifier == side or side.meaning.lower() in anatomy.type.meaning.lower()
    assert side.meaning.lower() in anatomy.label.lower()


def test_ribs_and_vertebrae_have_a_code_each() -> None:
    assert len({code_of(f"rib_left_{number}", {}).type.value for number in range(1, 13)}) == 12
    spine = [name for name in TASKS["total"].classes if name.startswith("vertebrae")]
    assert len({code_of(name, {}).type.value for name in spine}) == len(spine) == 25


def test_the_subclavian_arteries_are_not_both_the_right_one() -> None:
    """TotalSegmentator's own mapping gives both sides 29700009, which is the right artery."""
    assert code_of("subclavian_artery_left", {}).type.value == "36765005"


@pytest.mark.parametrize(
    ("name", "key"),
    [("vertebrae_L1", "vertebrae_l1"), ("Left Lung", "left_lung"), ("1", "label_1"), ("GTV-T (ITV)", "gtv_t_itv")],
)
def test_keys(name: str, key: str) -> None:
    assert key_of(name) == key


def test_names_are_found_however_they_are_written() -> None:
    assert code_of("Esophagus", {}) == code_of("esophagus", {})
    assert code_of("Thyroid gland", {}).label == "Thyroid gland"


def test_labels_without_a_code_are_all_named_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"no code for GTV, node_3; .*--labels FILE.*docs/models\.md"):
        codes_of(["heart", "GTV", "node_3"], {})


@pytest.mark.parametrize("entry", ["heart", GLAND | {"label": "Heart"}, GLAND | {"key": "heart", "label": "x"}])
def test_two_labels_that_would_look_alike_are_refused_before_anything_is_made(entry: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"heart and other have the same .*'key' and 'label'.*--labels"):
        codes_of(["aorta", "heart", "other"], read_mapping(mapping(tmp_path, {"other": entry})))


def mapping(tmp_path: Path, entries: object) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def test_a_mapping_gives_codes_names_and_defaults(tmp_path: Path) -> None:
    left = {"scheme": "SCT", "value": LEFT.value, "meaning": LEFT.meaning}
    read = read_mapping(
        mapping(tmp_path, {"1": "heart", "gland_L": GLAND | {"modifier": left}, "x": GLAND | {"colour": [1, 2, 3]}})
    )
    assert code_of("1", read) == known()["heart"]
    thyroid = Code("69748006", "SCT", "Thyroid")
    assert read["gland_L"] == Anatomy("gland_l", "Gland l", ANATOMICAL_STRUCTURE, thyroid, LEFT, read["gland_L"].colour)
    assert read["x"].colour == (1, 2, 3)
    assert read == read_mapping(tmp_path / "labels.json")


def test_a_mapping_comes_before_the_table(tmp_path: Path) -> None:
    read = read_mapping(mapping(tmp_path, {"heart": GLAND | {"label": "My heart"}}))
    assert code_of("heart", read).label == "My heart"


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("{", "cannot be read"),
        ([], "dictionary"),
        ({"a": {"label": "A"}}, "a: type: Field required"),
        ({"a": GLAND | {"surprise": 1}}, "a: surprise"),
        ({"a": GLAND | {"colour": [1, 2, 256]}}, "a: colour"),
        ({"a": GLAND | {"label": "x" * 65}}, "a: label"),
        ({"a": "hart"}, "'hart' is not a structure of the table"),
        ({"a": {"type": {"scheme": "SCT", "value": "69748007", "meaning": "Thyroid"}}}, "69748007.*check digit"),
        ({"a": {"type": {"scheme": "SRT", "value": "T-B6000", "meaning": "Thyroid"}}}, "SRT.*retired"),
    ],
)
def test_a_bad_mapping_is_refused_by_file_and_label(tmp_path: Path, entries: object, told: str) -> None:
    with pytest.raises(ModelError, match=rf"labels\.json.*{told}"):
        read_mapping(mapping(tmp_path, entries))


@pytest.mark.parametrize(
    ("value", "right"), [("80891009", True), ("8106092008", False), ("42161009", False), ("", False)]
)
def test_check_digits_of_snomed(value: str, right: bool) -> None:
    assert is_snomed_concept(value) is right
