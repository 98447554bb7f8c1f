"""Whole volumes: the DICOM through this project, its NIfTI through the original framework, label by label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.conversion.convert import convert_model
from tests.parity.nnunet import peers
from tests.parity.nnunet.cases import CASES, Case
from tests.parity.nnunet.cts import Ct, dice
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.trust import trusted
from tests.parity.nnunet.whole_volume import input_difference, segment, without_mirroring

MOST_DISAGREEMENT = 1e-3
MOST_INPUT_DIFFERENCE = 1e-3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = [case for case in CASES if case.small or metafunc.config.getoption("--full")]
        metafunc.parametrize("case", cases, ids=lambda case: f"{case.model.framework}: {case.name}")


def test_labels_are_those_of_the_original(
    case: Case, ct: Callable[[str], Ct], peer: peers.Peer, tmp_path: Path, report: Callable[[Row], None]
) -> None:
    model, series = case.model, ct(case.ct)
    source = peer.call(peers.write_model, model, tmp_path / "published")
    card = convert_model(source, "organs", tmp_path / "models", configurations=case.configurations)
    ours = segment(card if case.mirroring else without_mirroring(card), series.volume)
    theirs = peer.call(
        peers.predict,
        model,
        tmp_path / "published",
        case.configurations,
        series.image,
        tmp_path / "out",
        case.mirroring,
    )
    stages = [stage for name in case.configurations for stage in (model.net(name).previous, name) if stage]
    compared = np.logical_and.reduce(
        [
            trusted(model, model.net(stage), series.volume.voxels_hu, array.shape[1:])
            for stage, array in zip(stages, theirs.entered, strict=True)
        ]
    )
    different = ours.labels != theirs.labels
    numbers = range(1, len(model.organs) + 1)
    row = Row(
        peer=str(model.framework),
        configuration=" + ".join(case.configurations),
        options=case.options,
        weights="random",
        ct=case.ct,
        voxels=different.size,
        trusted=float(compared.mean()),
        disagreement=float(different[compared].mean()),
        everywhere=float(different.mean()),
        input_difference=input_difference(ours.entered, theirs.entered),
        lowest_dice=dice(ours.labels[compared], theirs.labels[compared], numbers),
        seconds_ours=ours.seconds,
        seconds_peer=theirs.seconds,
    )
    report(row)
    print(*row.cells(), sep=" | ")
    assert len(np.unique(theirs.labels)) >= 3, "a comparison of background says nothing"
    assert row.trusted > 0.1
    assert row.disagreement <= MOST_DISAGREEMENT
    assert row.input_difference <= MOST_INPUT_DIFFERENCE
