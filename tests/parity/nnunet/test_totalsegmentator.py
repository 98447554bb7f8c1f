"""Whole volumes against TotalSegmentator itself, its own pre- and postprocessing included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.catalog.totalsegmentator import CONFIGURATION, TASKS
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.orientation import network_turn
from tests.parity.nnunet import peers, totalsegmentator_peer
from tests.parity.nnunet.cts import Ct, dice
from tests.parity.nnunet.fixtures import FULLRES, Model, Net
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.trust import LEAST_WEIGHT, Window
from tests.parity.nnunet.whole_volume import input_difference, segment

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """A task on a CT. parts: which of its data sets; patch: of their networks, much smaller than the published ones."""

    task: str
    ct: str
    patch: tuple[int, int, int]
    parts: tuple[int, ...] = (0,)
    small: bool = False


CASES = [
    Case("total", "lidc_0314 stub", (16, 24, 24), (0, 2), small=True),
    Case("total", "lidc_0314 1 mm", (32, 40, 48), (0, 1, 2, 3, 4)),
    Case("total_fast", "lidc_0314 5 mm", (40, 32, 32)),
    Case("total_fastest", "phantom", (24, 32, 32)),
    Case("total_fastest", "lidc_0314 framed", (16, 16, 16)),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = [case for case in CASES if case.small or metafunc.config.getoption("--full")]
        metafunc.parametrize("case", cases, ids=lambda case: f"{case.task}, {case.ct}")


def test_labels_are_those_of_totalsegmentator(
    case: Case, ct: Callable[[str], Ct], peer: peers.Peer, tmp_path: Path, report: Callable[[Row], None]
) -> None:
    task, series = TASKS[case.task], ct(case.ct)
    models = [_model(case, number) for number in case.parts]
    for model in models:
        peer.call(peers.write_model, model, tmp_path / "published")
    card = convert_model(tmp_path / "published", "total", tmp_path / "models")
    ours = segment(card, series.volume)
    theirs = peer.call(
        totalsegmentator_peer.segment,
        tmp_path / "published",
        [int(model.task[7:10]) for model in models],
        task.datasets[0].trainer,
        task.spacing_mm,
        series.image,
        tmp_path / "out" / "labels.nii.gz",
    )
    compared = _trusted(card, models[0].nets[0], series.volume, theirs.entered[0].shape[1:], task.tile_step)
    different = ours.labels != theirs.labels
    row = Row(
        peer="TotalSegmentator",
        configuration=case.task,
        options=f"{len(models)} model{'s' if len(models) > 1 else ''}, {task.spacing_mm} mm, step {task.tile_step}",
        weights="random",
        ct=case.ct,
        voxels=different.size,
        trusted=float(compared.mean()),
        disagreement=float(different[compared].mean()),
        everywhere=float(different.mean()),
        # Parts of one task are prepared alike, and the spy notes the same array once.
        input_difference=max(input_difference([entered], theirs.entered[:1]) for entered in ours.entered),
        lowest_dice=dice(ours.labels[compared], theirs.labels[compared], [label.number for label in card.labels]),
        seconds_ours=ours.seconds,
        seconds_peer=theirs.seconds,
    )
    report(row)
    print(*row.cells(), sep=" | ")
    assert len(np.unique(theirs.labels)) > 10
    assert len(theirs.entered) == 1
    assert row.trusted > 0.1
    assert row.disagreement <= 1e-3
    assert row.input_difference <= 1e-3


def _model(case: Case, number: int) -> Model:
    task = TASKS[case.task]
    dataset = task.datasets[number]
    net = Net(CONFIGURATION, (task.spacing_mm,) * 3, case.patch, FULLRES.strides, FULLRES.kernels)
    return Model(
        Framework.V2,
        (net,),
        mirroring=False,
        organs=dataset.classes,
        seed=40 + number,
        task=dataset.folder,
        trained_by=dataset.trainer,
    )


def _trusted(card: ModelCard, net: Net, volume: Volume, shape: tuple[int, ...], step: float) -> Mask:
    """(z, y, x) of the image: labels come back by order 0, so each voxel has one voxel of the frame to judge by."""
    turn = network_turn(volume, card.axes)
    canonical = turn.forward(volume.voxels_hu).shape
    heavy = Window(Framework.V2, shape, net.patch, step).weights() > LEAST_WEIGHT
    factors = [new / old for new, old in zip(canonical, shape, strict=True)]
    found = ndimage.zoom(heavy.astype(np.uint8), factors, order=0, mode="nearest")
    return np.asarray(turn.backward(found) > 0)
