"""The whole engine on a network whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import InputError, ModelError, Refusal
from orthanc_plugin.inference.bpr.engine import BprEngine, Mode
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.dicom import PatientPosition, StorageOrder, encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom
from orthanc_plugin.series.read import read_series
from tests.support.cases import bpr_case
from tests.support.cases.bpr_case import SLOPE, TABLE, ct

CHEST = 40 + SLOPE * np.arange(0, 350, 5.0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> BprEngine:
    folder = tmp_path_factory.mktemp("bpr")
    bpr_case.mean_of_picture(folder)
    return BprEngine(bpr_case.card(folder), Provider.CPU)


def test_a_chest_is_found(engine: BprEngine) -> None:
    location = engine.locate(ct(CHEST))
    np.testing.assert_allclose(location.raw_scores, CHEST, atol=1e-3)
    np.testing.assert_allclose(location.scores, CHEST, atol=1e-3)
    assert location.z_mm[:2] == (-300.0, -295.0)
    assert (location.tag, location.reason, location.notes) == ("CHEST", "", ())
    assert location.valid_spacing
    assert not location.reversed
    assert location.coverage[Region.CHEST] == pytest.approx(1)
    chest = location.regions[Region.CHEST]
    assert chest == tuple(range(chest[0], chest[-1] + 1))
    th5 = next(landmark for landmark in location.landmarks if landmark.key == "Th5")
    assert th5.z_mm == pytest.approx(-300 + (TABLE["Th5"][0] - 40) / SLOPE, abs=0.1)
    assert engine.provider == "cpu"


def test_one_slice_at_once_gives_the_same_place(engine: BprEngine) -> None:
    spared = engine.sparing()
    assert spared is not None
    assert spared.sparing() is None
    usual, found = engine.locate(ct(CHEST)), spared.locate(ct(CHEST))
    np.testing.assert_allclose(found.scores, usual.scores, atol=1e-4)
    assert found.regions == usual.regions


def test_some_of_close_slices_are_scored_and_all_have_a_score(engine: BprEngine) -> None:
    fine = 40 + SLOPE * np.arange(0, 350, 1.0)
    location = engine.locate(ct(fine, spacing_mm=1.0))
    np.testing.assert_allclose(location.raw_scores, fine, atol=1e-3)
    assert location.notes == ("89 of 350 slices were scored, scores between them interpolated",)


def test_slices_without_a_body_are_not_scored(engine: BprEngine) -> None:
    volume = ct(CHEST)
    volume.voxels_hu[:6] = -1024
    volume.voxels_hu[-3:] = 0  # constant: filled in, no body
    volume.voxels_hu[30] = -1000
    volume.voxels_hu[30, 5, 5] = 900  # a grain
    location = engine.locate(volume)
    assert [index for index, score in enumerate(location.scores) if score is None] == [*range(6), 30, 67, 68, 69]
    assert location.raw_scores[30] is None
    assert location.notes == ("10 of 70 slices show no body and have no score",)
    assert 30 not in location.regions[Region.ABDOMEN]
    np.testing.assert_allclose(location.scores[6:30], CHEST[6:30], atol=1e-3)  # type: ignore[arg-type]


def test_falling_scores_are_flagged_and_landmarks_keep_their_place(engine: BprEngine) -> None:
    up, down = engine.locate(ct(CHEST)), engine.locate(ct(CHEST[::-1]))
    assert down.reversed
    assert any("upside down" in note for note in down.notes)
    assert [landmark.key for landmark in down.landmarks] == [landmark.key for landmark in up.landmarks]
    assert [69 - i.slice_index for i in down.landmarks] == pytest.approx([i.slice_index for i in up.landmarks], abs=1)


def test_a_doubtful_spacing_keeps_the_tag_and_says_so(engine: BprEngine) -> None:
    location = engine.locate(ct(CHEST, spacing_mm=10.0))
    assert not location.valid_spacing
    assert location.expected_spacing_mm == pytest.approx(5, rel=1e-3)
    assert location.tag == "CHEST"
    assert "scores change 0.50 times as expected" in location.notes[0]


NOISE = 50 + 10 * np.random.default_rng(0).normal(size=80)


@pytest.mark.parametrize(
    ("scores", "spacing_mm", "reason"),
    [
        (np.full(80, 50.0), 5.0, "scores change 0.00 times"),
        (NOISE, 5.0, "scores change"),
        (40 + 20 * np.sin(np.arange(80) / 6) + SLOPE * 5 * np.arange(80), 5.0, "neither rise nor fall steadily"),
        ([50.0], 5.0, "1 slices show a body; 5 are needed"),
        ([50.0, 52.0, 54.0], 40.0, "3 slices show a body; 5 are needed"),
        (40 + SLOPE * np.arange(0, 90, 3.0), 3.0, "extend over 87 mm; 100 mm are needed"),
        (np.repeat([20.0, 90.0], 40), 5.0, "scores leap"),  # two scans in one
        (np.repeat([30.0, 65.0], 70), 3.0, "scores leap"),
        (114 + SLOPE * np.arange(0, 90, 3.0), 6.0, "no slice lies in a part of the body"),
        (40 + 5 * SLOPE * np.arange(0, 150, 5.0), 5.0, "scores change 5.00 times"),
    ],
)
def test_bad_input_gets_a_reason_and_nothing_else(
    engine: BprEngine, scores: np.ndarray, spacing_mm: float, reason: str
) -> None:
    location = engine.locate(ct(np.asarray(scores), spacing_mm))
    assert reason in location.reason
    assert_nothing(location)
    assert len(location.raw_scores) == len(scores)


def test_a_scan_without_a_body_gets_a_reason(engine: BprEngine) -> None:
    location = engine.locate(Volume(np.full((40, 64, 64), -1000, np.float32), (5.0, 7.0, 7.0), np.eye(4)))
    assert location.reason == "0 slices show a body; 5 are needed"
    assert set(location.raw_scores) == {None}
    assert_nothing(location)


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_a_model_error(tmp_path: Path, weight: float) -> None:
    bpr_case.weighted(tmp_path / "bpr.onnx", np.full((16, 16), weight), 0.0)
    with pytest.raises(ModelError, match=r"bpr\.onnx gives values that are not finite numbers"):
        BprEngine(bpr_case.card(tmp_path), Provider.CPU).locate(ct(CHEST))


def assert_nothing(location: BodyLocation) -> None:
    assert (location.landmarks, dict(location.regions), dict(location.coverage)) == ((), {}, {})
    assert location.tag == "NONE"


@cache
def stored(position: PatientPosition, order: StorageOrder) -> Volume:
    """The chest with an asymmetric body, as read from DICOM stored in that way."""
    volume = ct(np.round(CHEST, 1))
    volume.voxels_hu[:, 10:20, 40:50] -= 150
    volume.voxels_hu[:, :, :6], volume.voxels_hu[:, :, 6:10] = -100, 40  # a CT without fat would be refused
    np.round(volume.voxels_hu, out=volume.voxels_hu)
    phantom = Phantom(volume, np.zeros(volume.voxels_hu.shape, np.uint8), {}, seed=1)
    return read_series(encode_phantom(phantom, position=position, order=order)).volume


@pytest.mark.parametrize("mode", Mode)
def test_storage_changes_nothing(tmp_path: Path, mode: Mode) -> None:
    rng = np.random.default_rng(0)
    bpr_case.weighted(tmp_path / "bpr.onnx", np.full((16, 16), 75 / 256) + 0.01 * rng.normal(size=(16, 16)), 50.0)
    engine = BprEngine(bpr_case.card(tmp_path), Provider.CPU, mode)
    first = engine.locate(stored(PatientPosition.HFS, StorageOrder.SCANNED))
    assert len(first.landmarks) > 12
    for position, order in [
        (PatientPosition.HFS, StorageOrder.REVERSED),
        (PatientPosition.HFS, StorageOrder.SHUFFLED),
        (PatientPosition.FFS, StorageOrder.SCANNED),
        (PatientPosition.HFP, StorageOrder.SCANNED),
        (PatientPosition.FFP, StorageOrder.REVERSED),
    ]:
        again = engine.locate(stored(position, order))
        turned = position in {PatientPosition.HFP, PatientPosition.FFP}
        if mode is Mode.DEFAULT or not turned:  # the original does not turn slices
            assert again == first
        else:
            assert again.raw_scores != first.raw_scores


def test_the_original_mirrors_slices_where_z_falls(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bpr_case.weighted(tmp_path / "bpr.onnx", np.full((16, 16), 75 / 256) + 0.01 * rng.normal(size=(16, 16)), 50.0)
    volume = stored(PatientPosition.HFS, StorageOrder.SCANNED)
    count = len(volume.voxels_hu)
    to_stored = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, count - 1], [0, 0, 0, 1.0]])
    falling = Volume(volume.voxels_hu[::-1], volume.spacing_mm, volume.affine @ to_stored)
    mirrored = replace(volume, voxels_hu=volume.voxels_hu[:, ::-1, ::-1])
    default, peer = (BprEngine(bpr_case.card(tmp_path), Provider.CPU, mode) for mode in Mode)
    assert default.locate(falling) == default.locate(volume)
    assert peer.locate(falling) == peer.locate(mirrored) != peer.locate(volume)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 1, 0)])
def test_coronal_and_sagittal_series_are_refused(engine: BprEngine, axes: tuple[int, int, int]) -> None:
    volume = ct(CHEST)
    turned = replace(volume, affine=volume.affine[:, [*axes, 3]])
    with pytest.raises(InputError) as error:
        engine.locate(turned)
    assert error.value.reason is Refusal.NOT_AXIAL


@pytest.mark.parametrize(("degrees", "refused"), [(25, False), (35, True)])
def test_strongly_oblique_series_are_refused(engine: BprEngine, degrees: float, refused: bool) -> None:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = replace(ct(CHEST), affine=turn @ ct(CHEST).affine)
    if refused:
        with pytest.raises(InputError):
            engine.locate(volume)
    else:
        assert engine.locate(volume).slope_ratio == pytest.approx(1 / np.cos(angle), rel=0.02)


def test_a_card_or_graph_that_does_not_fit_is_named(tmp_path: Path) -> None:
    bpr_case.mean_of_picture(tmp_path, size=12)
    with pytest.raises(ModelError, match=r"bpr\.onnx: input is .* but its card says slices .*16, 16"):
        BprEngine(bpr_case.card(tmp_path), Provider.CPU)
    with pytest.raises(ModelError, match="no bpr section"):
        BprEngine(replace(bpr_case.card(tmp_path), bpr=None, engine=Engine.NNUNET), Provider.CPU)
