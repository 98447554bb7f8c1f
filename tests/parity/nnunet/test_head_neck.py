"""The head-and-neck model against nnU-Net v2's own predictor on its weights, on patients that training never saw."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.catalog.reader import read_card
from tests.parity.nnunet import peers
from tests.parity.nnunet.head_neck import KEPT, WEIGHTS, held_out, patient_ct
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.whole_volume import segment, trained_row

CASES = [(0, True), (0, False), (1, True), (2, True), (3, True), (3, False)]
"""Place in the held-out fold, and whether air and couch are drawn."""

SMALL = CASES[:1]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = CASES if metafunc.config.getoption("--full") else SMALL
    ids = [f"patient {place}{', couch' if couch else ''}" for place, couch in wanted]
    metafunc.parametrize(("place", "couch"), wanted, ids=ids)


def unpacked(out: Path) -> Path:
    """The folder that nnU-Net reads."""
    with zipfile.ZipFile(WEIGHTS) as kept:
        kept.extractall(out)
    return next(out.rglob("plans.json")).parent


def without_postprocessing(card: ModelCard) -> ModelCard:
    """The card as nnU-Net's predictor runs the weights: it leaves the choice of the largest piece to a later step."""
    assert card.nnunet is not None
    parts = tuple(replace(part, postprocessing=()) for part in card.nnunet.parts)
    return replace(card, nnunet=replace(card.nnunet, parts=parts))


def test_every_organ_is_the_peers(
    place: int, couch: bool, peer: peers.Peer, tmp_path: Path, report: Callable[[Row], None]
) -> None:
    card = read_card(KEPT)
    ct = patient_ct(held_out()[place], tmp_path, surroundings=couch)
    ours = segment(without_postprocessing(card), ct.volume)
    theirs = peer.call(peers.predict_folder, unpacked(tmp_path / "published"), ct.image, tmp_path / "out")
    row = trained_row(card, Framework.V2, ct, ours, theirs)
    report(row)
    print(*row.cells(), sep=" | ")
    assert len(np.unique(theirs.labels)) == len(card.labels) + 1
    assert row.disagreement <= 1e-3
    assert row.input_difference <= 1e-3
    assert row.lowest_dice >= 0.999
