"""Which structure of an expert is which of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LEFT, TISSUE, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.validation.structures import (
    MatchedBy,
    Pair,
    Structure,
    pair_by_overlap,
    pair_structures,
    read_mapping,
)

HEART = Code("80891009", "SCT", "Heart")
LUNG = Code("39607008", "SCT", "Lung")


def structure(label: str, kind: Code = ANATOMICAL_STRUCTURE, side: Code | None = None, voxels: int = 0) -> Structure:
    segment = Segment(1, "s", label, ANATOMICAL_STRUCTURE, kind, side, (1, 2, 3), (1,))
    labels = np.zeros((1, 1, 20), np.uint8)
    labels[0, 0, :voxels] = 1
    return Structure(segment, Segmentation(labels, (segment,)))


def only(pairs: tuple[Pair, ...]) -> tuple[MatchedBy | None, str]:
    (pair,) = pairs
    return pair.matched_by, pair.name


@pytest.mark.parametrize(
    ("ai", "expert", "by", "name"),
    [
        (structure("heart", HEART), structure("Cor", HEART), MatchedBy.CODE, "Heart"),
        (structure("heart", HEART), structure("Cor", Code("T-32000", "SRT", "Heart")), MatchedBy.CODE, "Heart"),
        (
            structure("Left lung", LUNG, LEFT),
            structure("L", Code("44029006", "SCT", "Left lung")),
            MatchedBy.CODE,
            "Lung_L",
        ),
        (structure("Cor", HEART), structure("HEART"), MatchedBy.TG263, "Heart"),
        (structure("Aorta", Code("15825003", "SCT", "Aorta")), structure("A_Aorta"), MatchedBy.TG263, "A_Aorta"),
        (structure("Left lung"), structure("Lung_L"), MatchedBy.NAME, "Lung_L"),
        (structure("rt kidney"), structure("Kidney right", TISSUE), MatchedBy.NAME, "rt kidney"),
    ],
)
def test_by_code_by_tg263_by_name(ai: Structure, expert: Structure, by: MatchedBy, name: str) -> None:
    assert only(pair_structures([ai], [expert], {})) == (by, name)


def test_codes_that_name_no_structure_pair_nothing() -> None:
    pairs = pair_structures([structure("a", TISSUE)], [structure("b", TISSUE)], {})
    assert [(pair.ai is None, pair.expert is None) for pair in pairs] == [(True, False), (False, True)]


def test_several_of_one_name_are_ambiguous_and_not_guessed() -> None:
    pairs = pair_structures([structure("Node"), structure("Node")], [structure("node")], {})
    assert [bool(pair.doubt) for pair in pairs] == [True, False, False]
    assert "2 structures of the AI and 1 of the expert" in pairs[0].doubt


def test_several_of_one_code_are_told_apart_by_name() -> None:
    lesion = Code("52988006", "SCT", "Lesion")
    ai = [structure("Lesion 1", lesion), structure("Lesion 2", lesion)]
    pairs = pair_structures(ai, [structure("lesion 2", lesion), structure("lesion 1", lesion)], {})
    assert {(p.ai.label, p.expert.label) for p in pairs if p.ai and p.expert} == {
        ("Lesion 1", "lesion 1"),
        ("Lesion 2", "lesion 2"),
    }


def test_a_mapping_comes_first_and_unites(tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text("expert,ai\nBoth lungs,Left lung + right lung\nHERZ,80891009\n")
    ai = [structure("Left lung", voxels=3), structure("Right lung", voxels=5), structure("Cor", HEART)]
    pairs = pair_structures(ai, [structure("both lungs"), structure("Herz")], read_mapping(file))
    assert [pair.matched_by for pair in pairs] == [MatchedBy.MAPPING] * 2
    assert pairs[0].ai is not None
    assert (pairs[0].ai.label, pairs[0].ai.mask((1, 1, 20)).sum()) == ("Left lung + Right lung", 5)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "expert,ai\nHeart,\n", "expert,ai\nHeart\n"])
def test_a_mapping_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"mapping\.csv"):
        read_mapping(file)


def test_an_edit_that_lost_code_and_name_is_found_by_its_place() -> None:
    ai = [structure("Heart", HEART, voxels=10), structure("Cord", voxels=2)]
    expert = [structure("Segment 1", TISSUE, voxels=9), structure("Segment 2", TISSUE, voxels=20)]
    pairs = pair_by_overlap(pair_structures(ai, expert, {}), (1, 1, 20))
    named = {(p.ai.label if p.ai else "", p.expert.label if p.expert else ""): p.matched_by for p in pairs}
    assert named == {("Heart", "Segment 1"): MatchedBy.OVERLAP, ("", "Segment 2"): None, ("Cord", ""): None}
