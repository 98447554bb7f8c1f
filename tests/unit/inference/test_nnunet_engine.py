"""The whole nnU-Net engine on networks whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.nnunet import Configuration, Frame, Framework, LargestComponent, Part, Previous
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider
from tests.support.cases import nnunet_case
from tests.support.cases.nnunet_case import CONFIGURATION

SAME_GRID = replace(CONFIGURATION, spacing_mm=(2.0, 1.0, 1.0))
"""The grid of `ct`: nothing is resampled."""


def ct() -> Volume:
    """Air with a block of 300 HU and, apart from it, one of 700 HU; a margin of zeros on one side."""
    voxels = np.full((12, 40, 36), -900.0, np.float32)
    voxels[2:6, 8:20, 10:24] = 300.0
    voxels[7:11, 24:34, 6:16] = 700.0
    voxels[:, :, 30:] = 0.0
    return Volume(voxels, (2.0, 1.0, 1.0), np.diag([1.0, 1.0, 2.0, 1.0]))


def expected() -> Labels:
    """1 for 300 HU, 2 for 700 HU."""
    return np.select([ct().voxels_hu == 300, ct().voxels_hu == 700], [1, 2], 0).astype(np.uint8)


def soft_and_hard(directory: Path, name: str = "fold_0.onnx", patch: tuple[int, ...] = (8, 16, 16)) -> None:
    """Heads: background below 0.15, soft tissue to 0.5, bone above."""
    nnunet_case.thresholds(directory / name, patch, (0.0, 20.0, 40.0), (0.0, -3.0, -13.0))


def labels_of(directory: Path, *parts: Part, frame: Frame | None = None) -> Labels:
    engine = NnunetEngine(nnunet_case.card(directory, *parts, frame=frame), Provider.CPU)
    return engine.segment(ct()).labels


def configuration_of(framework: Framework) -> Configuration:
    return replace(SAME_GRID, framework=framework)


@pytest.mark.parametrize("framework", Framework)
def test_labels_lie_where_the_tissue_is(tmp_path: Path, framework: Framework) -> None:
    soft_and_hard(tmp_path)
    part = Part((replace(configuration_of(framework), mirror_axes=(0, 1, 2)),), (0, 1, 2))
    np.testing.assert_array_equal(labels_of(tmp_path, part), expected())


def test_255_labels_and_the_background_are_as_many_as_fit(tmp_path: Path) -> None:
    offsets = (0.0, *(-99.0 for _ in range(254)), -3.0)
    nnunet_case.thresholds(tmp_path / "fold_0.onnx", (8, 16, 16), (0.0,) * 255 + (20.0,), offsets)
    part = Part((replace(SAME_GRID, heads=256),), tuple(range(256)))
    np.testing.assert_array_equal(labels_of(tmp_path, part), np.where(expected() > 0, 255, 0))


@pytest.mark.parametrize("framework", Framework)
def test_a_planar_network_sees_slices(tmp_path: Path, framework: Framework) -> None:
    soft_and_hard(tmp_path, patch=(16, 16))
    configuration = replace(nnunet_case.planar(configuration_of(framework)), mirror_axes=(0, 1))
    np.testing.assert_array_equal(labels_of(tmp_path, Part((configuration,), (0, 1, 2))), expected())


@pytest.mark.parametrize("framework", Framework)
def test_transposition_is_undone(tmp_path: Path, framework: Framework) -> None:
    soft_and_hard(tmp_path, patch=(16, 16, 8))
    turned = replace(
        configuration_of(framework),
        transpose_forward=(2, 1, 0),
        transpose_backward=(2, 1, 0),
        patch_size=(16, 16, 8),
        spacing_mm=(1.0, 1.0, 2.0),
    )
    np.testing.assert_array_equal(labels_of(tmp_path, Part((turned,), (0, 1, 2))), expected())


def test_a_working_grid_of_another_spacing_moves_no_border_by_more_than_a_voxel(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    labels = labels_of(tmp_path, Part((CONFIGURATION,), (0, 1, 2)))
    assert (labels[3:5, 10:18, 12:22] == 1).all()
    assert (labels[8:10, 26:32, 8:14] == 2).all()
    assert not labels[:, :6].any()
    assert not labels[0].any()


def test_folds_are_averaged(tmp_path: Path) -> None:
    soft_and_hard(tmp_path, "fold_0.onnx")
    nnunet_case.thresholds(tmp_path / "fold_1.onnx", (8, 16, 16), (0.0, 0.0, 0.0), (0.0, 0.0, 30.0))
    labels = labels_of(tmp_path, Part((replace(SAME_GRID, graphs=("fold_0.onnx", "fold_1.onnx")),), (0, 1, 2)))
    values = ct().voxels_hu / 1000
    logits = np.stack([0 * values, 20 * values - 3, 40 * values - 13 + 30])
    np.testing.assert_array_equal(labels, logits.argmax(0) * (ct().voxels_hu != 0).any(axis=(0, 1)))


def test_regions_are_painted_in_order(tmp_path: Path) -> None:
    nnunet_case.thresholds(tmp_path / "fold_0.onnx", (8, 16, 16), (20.0, 20.0), (-3.0, -10.0))
    for framework in Framework:
        configuration = replace(configuration_of(framework), heads=2)
        labels = labels_of(tmp_path, Part((configuration,), (1, 2), regions=True))
        np.testing.assert_array_equal(labels, expected())


def test_parts_follow_each_other_and_later_labels_win(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    first, second = Part((SAME_GRID,), (0, 5, 7)), Part((SAME_GRID,), (0, 0, 9))
    labels = labels_of(tmp_path, first, second)
    np.testing.assert_array_equal(labels, np.choose(expected(), (0, 5, 9)))


def test_segments_are_those_present(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    card = nnunet_case.card(tmp_path, Part((SAME_GRID,), (0, 1, 2)), Part((SAME_GRID,), (0, 3, 4)))
    engine = NnunetEngine(card, Provider.CPU)
    assert [segment.number for segment in engine.segment(ct()).segments] == [3, 4]
    assert engine.provider == "cpu"


def test_probabilities_of_configurations_are_averaged(tmp_path: Path) -> None:
    """A 3d network that is sure of background loses against a surer 2d one, and wins against an unsure one."""
    nnunet_case.thresholds(tmp_path / "deep.onnx", (8, 16, 16), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    soft_and_hard(tmp_path, "flat.onnx", patch=(16, 16))
    for framework in Framework:
        deep = replace(configuration_of(framework), graphs=("deep.onnx",))
        flat = replace(nnunet_case.planar(configuration_of(framework)), graphs=("flat.onnx",))
        labels = labels_of(tmp_path, Part((deep, flat), (0, 1, 2)))
        np.testing.assert_array_equal(labels, expected())


@pytest.mark.parametrize("framework", Framework)
def test_a_cascade_sees_the_labels_of_its_first_stage(tmp_path: Path, framework: Framework) -> None:
    soft_and_hard(tmp_path, "low.onnx")
    weights = np.zeros((3, 3, 1, 1, 1), np.float32)
    weights[1, 2] = weights[2, 1] = 10.0  # the second stage only swaps the labels of the first
    nnunet_case.convolution(tmp_path / "full.onnx", weights, (1.0, 0.0, 0.0), (8, 16, 16))
    low = Part((replace(configuration_of(framework), graphs=("low.onnx",)),), (0, 1, 2))
    full = replace(configuration_of(framework), graphs=("full.onnx",), previous=Previous(low))
    engine = NnunetEngine(nnunet_case.card(tmp_path, Part((full,), (0, 1, 2))), Provider.CPU)
    whole = np.where(ct().voxels_hu == 0, np.float32(-900), ct().voxels_hu)  # nothing to crop: v1 would shift labels
    labels = engine.segment(Volume(whole, ct().spacing_mm, ct().affine)).labels
    np.testing.assert_array_equal(labels, np.choose(expected(), (0, 2, 1)))


def test_postprocessing_runs_on_the_image_grid(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    rule = LargestComponent((1, 2))
    part = Part((configuration_of(Framework.V1),), (0, 1, 2), postprocessing=(rule,))
    np.testing.assert_array_equal(labels_of(tmp_path, part), np.where(expected() == 1, 1, 0))


def test_the_frame_of_totalsegmentator_is_undone(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    part = Part((replace(CONFIGURATION, spacing_mm=(1.5, 1.5, 1.5)),), (0, 1, 2))
    labels = labels_of(tmp_path, part, frame=Frame(1.5))
    assert labels.shape == ct().voxels_hu.shape
    assert (labels[3:5, 10:18, 12:22] == 1).all()
    assert (labels[8:10, 26:32, 8:14] == 2).all()


def test_storage_does_not_matter(tmp_path: Path) -> None:
    """Feet first, or seen from behind: the same organs in the patient."""
    kernel = np.random.default_rng(0).normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
    nnunet_case.convolution(tmp_path / "fold_0.onnx", kernel, (0.0, 0.0, 0.0), (8, 16, 16))
    engine = NnunetEngine(nnunet_case.card(tmp_path, Part((SAME_GRID,), (0, 1, 2))), Provider.CPU)
    volume = ct()
    affine = volume.affine @ np.array([[-1, 0, 0, 35], [0, -1, 0, 39], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    turned = Volume(np.ascontiguousarray(volume.voxels_hu[:, ::-1, ::-1]), volume.spacing_mm, affine)
    np.testing.assert_array_equal(engine.segment(turned).labels[:, ::-1, ::-1], engine.segment(volume).labels)


def test_a_graph_of_another_patch_is_refused(tmp_path: Path) -> None:
    soft_and_hard(tmp_path, patch=(8, 16, 12))
    with pytest.raises(ModelError, match=r"fold_0\.onnx: input is image .* but its card says .*8, 16, 16"):
        labels_of(tmp_path, Part((SAME_GRID,), (0, 1, 2)))


def test_a_graph_of_other_heads_is_refused(tmp_path: Path) -> None:
    nnunet_case.thresholds(tmp_path / "fold_0.onnx", (8, 16, 16), (0.0, 1.0), (0.0, 0.0))
    with pytest.raises(ModelError, match=r"fold_0\.onnx: output"):
        labels_of(tmp_path, Part((SAME_GRID,), (0, 1, 2)))


def test_a_card_with_the_wrong_numbers_is_refused(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    with pytest.raises(ModelError, match=r"card\.json: 3d_fullres has 3 heads and 2 numbers"):
        labels_of(tmp_path, Part((SAME_GRID,), (0, 1)))


def test_values_that_are_not_finite_are_a_model_error(tmp_path: Path) -> None:
    nnunet_case.thresholds(tmp_path / "fold_0.onnx", (8, 16, 16), (0.0, 1.0, np.inf), (0.0, 0.0, 0.0))
    with pytest.raises(ModelError, match=r"fold_0\.onnx gives values that are not finite numbers"):
        labels_of(tmp_path, Part((SAME_GRID,), (0, 1, 2)))


def test_low_resolution_is_averaged_with_the_cascade_that_begins_with_it(tmp_path: Path) -> None:
    soft_and_hard(tmp_path, "low.onnx")
    weights = np.zeros((3, 3, 1, 1, 1), np.float32)
    weights[1, 1] = weights[2, 2] = 10.0
    nnunet_case.convolution(tmp_path / "full.onnx", weights, (1.0, 0.0, 0.0), (8, 16, 16))
    low = replace(SAME_GRID, graphs=("low.onnx",))
    full = replace(SAME_GRID, graphs=("full.onnx",), previous=Previous(Part((low,), (0, 1, 2))))
    np.testing.assert_array_equal(labels_of(tmp_path, Part((low, full), (0, 1, 2))), expected())


def test_rows_at_45_degrees_are_read_as_stored(tmp_path: Path) -> None:
    """The labels lie on the voxels of the tissue, so at its place in the patient."""
    soft_and_hard(tmp_path)
    engine = NnunetEngine(nnunet_case.card(tmp_path, Part((SAME_GRID,), (0, 1, 2))), Provider.CPU)
    half = np.sqrt(0.5)
    turn = np.array([[half, -half, 0, 0], [half, half, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = ct()
    turned = Volume(volume.voxels_hu, volume.spacing_mm, turn @ volume.affine)
    np.testing.assert_array_equal(engine.segment(turned).labels, expected())
