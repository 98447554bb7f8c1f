"""The built-in model on phantoms with one change each: gas, contrast, a circle, a small patient, a scan upside down."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.masks import Mask, Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.quality.masks import check_masks
from tests.integration.test_chest_engine import (
    AIRWAY,
    BONE,
    LEFT,
    RIGHT,
    dice,
    engine,
    keys,
    phantom,
    segmented,
    volume_of,
)
from tests.support.cases import chest_variants
from tests.support.cases.chest_variants import VARIANTS, Chest

OPEN = {(f"lung_{side}", Check.CLOSED) for side in ("left", "right")}
GAS = [name for name in VARIANTS if name.startswith(("stomach", "colon"))]


@cache
def unchanged() -> Chest:
    return chest_variants.chest(phantom().volume, phantom().labels)


def found_in(name: str) -> tuple[Chest, Segmentation]:
    made = VARIANTS[name](unchanged())
    return made, engine().segment(made.volume)


def failed_checks(volume: Volume, found: Segmentation) -> set[tuple[str, Check]]:
    results = check_masks(volume, found, engine().card)
    return {(result.key, result.check) for result in results if not result.passed}


def ml(made: Chest, mask: Mask) -> float:
    return float(mask.sum()) * made.volume.voxel_ml


@pytest.mark.parametrize("name", GAS)
def test_gas_of_stomach_and_bowel_is_no_lung(name: str) -> None:
    made, found = found_in(name)
    for number in (LEFT, RIGHT):
        assert dice(found.labels == number, made.labels == number) >= 0.97
    wrong = np.isin(found.labels, (LEFT, RIGHT, AIRWAY)) & made.added
    assert ml(made, wrong) <= 0.03 * ml(made, made.added)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("contrast")])
def test_contrast_is_no_bone(name: str) -> None:
    made, found = found_in(name)
    assert ml(made, (found.labels == BONE) & made.added) <= 0.1 * ml(made, made.added)
    assert dice(found.labels == BONE, made.labels == BONE) >= 0.85
    assert any(note.startswith("contrast medium of about") for note in found.notes)


def test_without_contrast_no_note_speaks_of_it() -> None:
    assert not any("contrast" in note for note in engine().segment(phantom().volume).notes)


def test_small_patient_is_found() -> None:
    """Both lungs together have less than half a litre."""
    made, found = found_in("patient of 45 % of the size")
    assert ml(made, np.isin(made.labels, (LEFT, RIGHT))) < 500
    for number in (LEFT, RIGHT):
        assert dice(found.labels == number, made.labels == number) >= 0.95


def test_a_scan_upside_down_says_so() -> None:
    _, found = found_in("slices upside down")
    assert not any(key.startswith(("lung", "airway")) for key in keys(found))
    assert any("upside down" in note for note in found.notes)


def test_a_lung_that_a_gap_in_the_skin_cuts_short_says_so() -> None:
    made, found = found_in("a gap in the skin beside the left lung")
    assert ml(made, found.labels == LEFT) < 0.8 * ml(made, made.labels == LEFT)
    assert any("the left lung is open to the air around the body" in note for note in found.notes)
    assert not any("the right lung is open" in note for note in found.notes)
    assert failed_checks(made.volume, found) & OPEN == {("lung_left", Check.CLOSED)}


def test_a_lung_that_is_lost_through_a_gap_in_the_skin_says_so() -> None:
    found = engine().segment(chest_variants.opened(unchanged(), LEFT, 200.0).volume)
    assert not (found.labels == LEFT).any()
    assert any("a lung seems to be open to the air around the body" in note for note in found.notes)
    assert ("lung_right", Check.PARTNER) in failed_checks(unchanged().volume, found)


def test_lungs_that_are_both_lost_through_gaps_have_that_reason() -> None:
    both = chest_variants.opened(chest_variants.opened(unchanged(), LEFT, 200.0), RIGHT, 200.0)
    found = engine().segment(both.volume)
    assert not any(key.startswith("lung") for key in keys(found))
    assert any(note.startswith("the lungs seem to be open to the air around the body") for note in found.notes)
    assert not any("plausible" in note for note in found.notes)


def test_no_whole_lung_opens_to_the_air() -> None:
    for name in ("couch of foam under the back", "right lung filled with fluid", "right lung filled, body at the edge"):
        made, found = found_in(name)
        assert not any("open to the air" in note for note in found.notes)
        assert not failed_checks(made.volume, found) & OPEN


def test_a_cylinder_with_a_rod_as_light_as_lung_is_no_chest() -> None:
    found = engine().segment(chest_variants.quality_cylinder())
    assert not any(key.startswith(("lung", "airway")) for key in keys(found))


def test_couch_air_and_front_couch_are_no_body() -> None:
    for name in ("couch of foam under the back", "prone"):
        made, found = found_in(name)
        assert dice(np.isin(found.labels, (LEFT, RIGHT)), np.isin(made.labels, (LEFT, RIGHT))) >= 0.97


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("reconstruction circle")])
def test_a_circle_never_gives_a_lung_of_the_other_side(name: str) -> None:
    made, found = found_in(name)
    assert not ((found.labels == LEFT) & (made.labels == RIGHT)).any()
    assert not ((found.labels == RIGHT) & (made.labels == LEFT)).any()
    whole = {"left": LEFT, "right": RIGHT}
    kept = [side for side, number in whole.items() if (found.labels == number).any()]
    assert kept or any("edge" in note for note in found.notes)
    for side in kept:
        assert dice(found.labels == whole[side], made.labels == whole[side]) >= 0.9


def real(name: str) -> tuple[Chest, Segmentation]:
    """Change cip_ct64, whose lungs and bone are those of the model itself on the unchanged scan."""
    series = "cip_ct64/dicom"
    made = VARIANTS[name](chest_variants.chest(volume_of(series), segmented(series).labels))
    return made, engine().segment(made.volume)


@pytest.mark.real_ct
@pytest.mark.parametrize(
    ("name", "kept", "lost"),
    [
        ("reconstruction circle of 150 mm, 40 mm to the left", LEFT, "right"),
        ("reconstruction circle of 130 mm, 60 mm to the right", RIGHT, "left"),
    ],
)
def test_a_narrow_circle_costs_one_real_lung_and_says_why(name: str, kept: int, lost: str) -> None:
    made, found = real(name)
    assert dice(found.labels == kept, made.labels == kept) >= 0.99
    assert not (found.labels == {"left": LEFT, "right": RIGHT}[lost]).any()
    assert f"the {lost} lung is cut by the edge of the image: not segmented" in found.notes


@pytest.mark.real_ct
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pneumothorax_is_noted_and_fails_its_check(side: str) -> None:
    made, found = real(f"pneumothorax {side}")
    assert any(note.startswith(f"the {side} lung holds gas without vessels") for note in found.notes)
    failed = failed_checks(made.volume, found)
    assert (f"lung_{side}", Check.GAS) in failed
    assert (f"lung_{'right' if side == 'left' else 'left'}", Check.GAS) not in failed


@pytest.mark.real_ct
def test_bone_of_a_small_patient_is_no_contrast() -> None:
    _, found = real("patient of 45 % of the size")
    assert not any("contrast" in note for note in found.notes)


@pytest.mark.real_ct
@pytest.mark.parametrize(("hu", "most"), [(250, 0.02), (350, 0.05), (450, 0.08)])
def test_real_bone_holds_little_of_the_contrast_and_stays(hu: int, most: float) -> None:
    made, found = real(f"contrast at {hu} HU in heart, aorta and kidneys")
    assert ml(made, (found.labels == BONE) & made.added) <= most * ml(made, made.added)
    assert dice(found.labels == BONE, made.labels == BONE) >= 0.86


@pytest.mark.real_ct
def test_stomach_behind_one_voxel_of_wall_is_no_real_lung_and_is_noted() -> None:
    made, found = real("gas of a stomach, 440 mL at -990 HU, behind one voxel of wall")
    assert ml(made, np.isin(found.labels, (LEFT, RIGHT)) & made.added) <= 5
    assert dice(found.labels == LEFT, made.labels == LEFT) >= 0.99
    assert any(note.startswith("gas below the left lung") for note in found.notes)


@pytest.mark.real_ct
def test_a_prone_patient_with_the_header_of_a_supine_one_gets_no_lungs_of_the_other_side() -> None:
    """Everything is found, lungs and carina, but left and right are exchanged."""
    _, found = real("prone, header says supine")
    assert not any(key.startswith(("lung", "airway")) for key in keys(found))
    assert any("front and back of the scan are exchanged" in note for note in found.notes)
