"""The agreement of the passes of a model: what it measures, and that it changes no label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Part
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.inference.nnunet import engine
from orthanc_plugin.inference.nnunet.device import Device
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.nnunet.members import Members
from orthanc_plugin.inference.providers import Provider
from tests.support.cases import nnunet_case
from tests.unit.inference.test_nnunet_engine import SAME_GRID, ct, expected, soft_and_hard

PATCH = (8, 16, 16)


def segmented(directory: Path, *configurations: Configuration, regions: bool = False) -> Segmentation:
    part = Part(configurations, (1, 2) if regions else (0, 1, 2), regions)
    return NnunetEngine(nnunet_case.card(directory, part), Provider.CPU).segment(ct())


def two_folds(directory: Path, other: tuple[float, float, float]) -> Configuration:
    soft_and_hard(directory)
    nnunet_case.thresholds(directory / "fold_1.onnx", PATCH, (0.0, 20.0, 40.0), other)
    return replace(SAME_GRID, graphs=("fold_0.onnx", "fold_1.onnx"))


@pytest.mark.parametrize("framework", Framework)
def test_members_that_find_the_same_agree(tmp_path: Path, framework: Framework) -> None:
    soft_and_hard(tmp_path)
    found = segmented(tmp_path, replace(SAME_GRID, framework=framework, mirror_axes=(0, 2)))
    np.testing.assert_array_equal(found.labels, expected())
    assert [(one.key, one.members, one.dice) for one in found.confidence] == [("organ_1", 4, 1), ("organ_2", 4, 1)]
    assert all(0 <= one.entropy_bits < 0.5 for one in found.confidence)


def test_a_model_of_one_pass_has_no_members(tmp_path: Path) -> None:
    soft_and_hard(tmp_path)
    assert segmented(tmp_path, SAME_GRID).confidence == ()


def test_a_fold_that_misses_an_organ_disagrees(tmp_path: Path) -> None:
    """Of two folds, one never finds the second organ, and is surer of that than the other of the organ."""
    found = segmented(tmp_path, two_folds(tmp_path, (0.0, -3.0, -18.0)))
    by_key = {one.key: one for one in found.confidence}
    assert by_key["organ_1"].dice == pytest.approx(1, abs=0.2)
    assert by_key["organ_2"].dice < 0.9
    assert by_key["organ_2"].dice < by_key["organ_1"].dice


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("logits", [False, True])
def test_dice_and_entropy_of_a_tile_by_hand(regions: bool, logits: bool) -> None:
    """Two members: a block of 4 voxels, and the same with one voxel less; the joint result is the larger block."""
    sure, half = 0.9, 0.6
    first = np.full((2, 1, 4, 4), 1 - sure, np.float32)
    first[1, 0, 1:3, 1:3] = sure
    second = first.copy()
    second[1, 0, 1, 1] = 1 - half
    for member in (first, second):
        member[0] = 1 - member[1]
    mean = (first + second) / 2
    if logits and regions:
        first, second, mean = (logit(values) for values in (first, second, mean))
    elif logits:
        first, second, mean = (np.log(values) for values in (first, second, mean))
    members = Members(2, 2, regions=regions, logits=logits)
    share = np.full((1, 4, 4), 0.5, np.float32)
    members.add([members.decide(first), members.decide(second)], mean, share)
    assert members.dice(1) == pytest.approx((1 + 2 * 3 / 7) / 2)
    p = np.array([sure, sure, sure, (sure + 1 - half) / 2])
    assert members.entropy(1) == pytest.approx(float(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p))), rel=1e-4)


def test_an_organ_that_nobody_finds_has_no_figures() -> None:
    members = Members(2, 2, regions=False, logits=True)
    nothing = np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2))]).astype(np.float32)
    members.add([members.decide(nothing)] * 2, nothing, np.ones((2, 2, 2), np.float32))
    assert members.dice(1) is None
    assert members.entropy(1) is None


def test_mirrored_heads_exchange_left_and_right(tmp_path: Path) -> None:
    """Head 1 sees what rises to the left, head 2 what rises to the right; in a mirrored copy they are exchanged."""
    weights = np.zeros((3, 1, 1, 1, 3), np.float32)
    weights[1, 0, 0, 0] = (-1, 0, 1)
    weights[2, 0, 0, 0] = (1, 0, -1)
    nnunet_case.convolution(tmp_path / "fold_0.onnx", weights, (0.05, 0.0, 0.0), PATCH)
    plain = segmented(tmp_path, SAME_GRID)
    mirrored = replace(SAME_GRID, mirror_axes=(2,))
    exchanged = segmented(tmp_path, replace(mirrored, mirrored_heads=(0, 2, 1)))
    np.testing.assert_array_equal(exchanged.labels, plain.labels)
    assert [one.dice for one in exchanged.confidence] == [1, 1]
    assert all(one.dice < 0.9 for one in segmented(tmp_path, mirrored).confidence)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("framework", Framework)
def test_probabilities_change_no_label_and_agree_with_it(tmp_path: Path, framework: Framework, regions: bool) -> None:
    soft_and_hard(tmp_path)
    configuration = replace(SAME_GRID, framework=framework)
    part = Part((configuration,), (1, 2) if regions else (0, 1, 2), regions)
    if regions:
        nnunet_case.thresholds(tmp_path / "fold_0.onnx", PATCH, (20.0, 40.0), (-3.0, -18.0))
        part = replace(part, configurations=(replace(configuration, heads=2),))
    model = NnunetEngine(nnunet_case.card(tmp_path, part), Provider.CPU)
    plain, found = model.segment(ct()), model.segment_with_probabilities(ct())
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert plain.probabilities == ()
    assert [one.key for one in found.probabilities] == [segment.key for segment in found.segments]
    if not regions:
        for segment, one in zip(found.segments, found.probabilities, strict=True):
            assert one.values[found.labels == segment.number].min() >= 255 / 3 - 1


def test_a_device_that_replays_its_runs_gives_probabilities_by_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs of the device decide on it and keep no probabilities; the CPU stands in for a GPU."""
    soft_and_hard(tmp_path)
    card = nnunet_case.card(tmp_path, Part((SAME_GRID,), (0, 1, 2), False))
    expected = NnunetEngine(card, Provider.CPU).segment_with_probabilities(ct())
    monkeypatch.setattr(engine, "open_device", lambda wanted: Device("cpu"))
    found = NnunetEngine(card, Provider.CPU).segment_with_probabilities(ct())
    np.testing.assert_array_equal(found.labels, expected.labels)
    for one, other in zip(found.probabilities, expected.probabilities, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert len(found.probabilities) == 2
