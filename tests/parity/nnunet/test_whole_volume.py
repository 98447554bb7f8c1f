"""Whole volumes: the DICOM through this project, its NIfTI through the original framework, label by label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.inference.nnunet.orientation import network_turn
from tests.parity.nnunet import peers
from tests.parity.nnunet.cases import CASES, Case
from tests.parity.nnunet.cts import Ct, dice, write_labels
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.trust import Window, trusted
from tests.parity.nnunet.whole_volume import Found, first_stage, input_difference, segment, without_mirroring

MOST_DISAGREEMENT = 1e-3
MOST_INPUT_DIFFERENCE = 1e-3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = [case for case in CASES if case.small or metafunc.config.getoption("--full")]
        metafunc.parametrize("case", cases, ids=lambda case: f"{case.model.framework}: {case.name}")


def test_labels_are_those_of_the_original(
    case: Case, ct: Callable[[str], Ct], peer: peers.Peer, tmp_path: Path, report: Callable[[Row], None]
) -> None:
    series, published = ct(case.ct), tmp_path / "published"
    source = peer.call(peers.write_model, case.model, published)
    card = convert_model(source, "organs", tmp_path / "models", configurations=case.configurations)
    card = card if case.mirroring else without_mirroring(card)

    def compare(names: tuple[str, ...], card: ModelCard, first: Path | None = None) -> Found:
        out = tmp_path / names[0]
        ours = segment(card, series.volume)
        theirs = peer.call(peers.predict, case.model, published, names, series.image, out, case.mirroring, first)
        row = compared(replace(case, configurations=names), card, series, ours, theirs)
        report(row)
        print(*row.cells(), sep=" | ")
        assert len(np.unique(theirs.labels)) >= 3, "a comparison of background says nothing"
        assert row.trusted > 0.1
        assert row.disagreement <= MOST_DISAGREEMENT
        assert row.input_difference <= MOST_INPUT_DIFFERENCE
        return ours

    stage, first = first_stage(card), None
    if stage is not None:
        # A voxel of the first stage that lies near a tie changes hundreds of a second stage of random weights: the
        # first is compared on its own, then both seconds get the same labels of it.
        found = compare(("3d_lowres",), stage)
        first = write_labels(found.labels, series.image, tmp_path / "first" / "case.nii.gz").parent
    compare(case.configurations, card, first)


def compared(case: Case, card: ModelCard, series: Ct, ours: Found, theirs: peers.Prediction) -> Row:
    """The line of the table."""
    model = case.model
    nets = [model.net(name) for name in case.configurations]
    entered = ours.entered[-len(nets) :]  # a first stage enters before, and has a line of its own
    turn = network_turn(series.volume, card.axes)
    turned = turn.forward(series.volume.voxels_hu)
    windows = [
        Window(model.framework, array.shape[1:], net.patch) for net, array in zip(nets, theirs.entered, strict=True)
    ]
    heavy = turn.backward(np.logical_and.reduce([trusted(window, model.transpose, turned) for window in windows]))
    different = ours.labels != theirs.labels
    return Row(
        peer=str(model.framework),
        configuration=" + ".join(case.configurations),
        options=case.options,
        weights="random",
        ct=case.ct,
        voxels=different.size,
        trusted=float(heavy.mean()),
        disagreement=float(different[heavy].mean()),
        everywhere=float(different.mean()),
        input_difference=input_difference(entered, theirs.entered),
        lowest_dice=dice(ours.labels[heavy], theirs.labels[heavy], range(1, len(model.organs) + 1)),
        seconds_ours=ours.seconds,
        seconds_peer=theirs.seconds,
    )
