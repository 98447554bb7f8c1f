"""Trained weights against the original frameworks: the stand-in in both layouts, Dice of every organ."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.inference.nnunet.orientation import network_turn
from tests.parity.nnunet import peers
from tests.parity.nnunet.cts import Ct, dice
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.trust import Window, trusted
from tests.parity.nnunet.whole_volume import input_difference, segment
from tests.realct import ROOT

KEPT = ROOT / "models" / "thorax_standin" / "thorax_standin_v2.zip"
SMALL = {(Framework.V2, "thorax"), (Framework.V1, "thorax")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = [(framework, name) for framework in Framework for name in ("thorax", "cip_ct64", "lidc_0314 5 mm")]
    wanted = [pair for pair in every if pair in SMALL or metafunc.config.getoption("--full")]
    metafunc.parametrize(("framework", "name"), wanted, ids=[f"{framework}: {name}" for framework, name in wanted])


def published(out: Path) -> Path:
    """The stand-in in both layouts: v2 as kept, v1 as its training script writes it."""
    import torch

    with zipfile.ZipFile(KEPT) as kept:
        kept.extractall(out)
    path = ROOT / "scripts" / "train_thorax_standin.py"
    spec = importlib.util.spec_from_file_location("train_thorax_standin", path)
    assert spec is not None
    assert spec.loader is not None
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    folder = out / training.V2
    plans = training.json.loads((folder / "plans.json").read_text())
    network = training.build_network(plans)
    weights = torch.load(folder / "fold_0" / peers.CHECKPOINT_V2, weights_only=True)["network_weights"]
    network.load_state_dict(weights)
    folder = training.write_v1(out / "v1", network, plans)
    # v1's plans name no label; the dataset.json of its task does.
    labels = {str(number): organ for organ, number in training.ORGANS.items()}
    (folder.parent / "dataset.json").write_text(training.json.dumps({"labels": {"0": "background"} | labels}))
    return out


def test_every_organ_of_trained_weights_is_the_originals(
    framework: Framework,
    name: str,
    ct: Callable[[str], Ct],
    peer: peers.Peer,
    tmp_path: Path,
    report: Callable[[Row], None],
) -> None:
    series, root = ct(name), peer.call(published, tmp_path / "published")
    source = root / ("v1" if framework is Framework.V1 else "Dataset555_ThoraxStandin")
    (folder,) = (path.parent for path in source.rglob("plans.*"))
    card = convert_model(source, "standin", tmp_path / "models")
    assert card.nnunet is not None
    (configuration,) = card.nnunet.parts[0].configurations
    ours = segment(card, series.volume)
    theirs = peer.call(peers.predict_folder, folder, series.image, tmp_path / "out")
    turn = network_turn(series.volume, card.axes)
    window = Window(framework, theirs.entered[0].shape[1:], configuration.patch_size, configuration.tile_step)
    compared = turn.backward(trusted(window, (0, 1, 2), turn.forward(series.volume.voxels_hu)))
    different = ours.labels != theirs.labels
    row = Row(
        peer=str(framework),
        configuration=configuration.name,
        options=f"1 fold, mirroring off, {card.name}",
        weights="trained",
        ct=name,
        voxels=different.size,
        trusted=float(compared.mean()),
        disagreement=float(different[compared].mean()),
        everywhere=float(different.mean()),
        input_difference=input_difference(ours.entered, theirs.entered),
        lowest_dice=dice(ours.labels, theirs.labels, [label.number for label in card.labels]),
        seconds_ours=ours.seconds,
        seconds_peer=theirs.seconds,
    )
    report(row)
    print(*row.cells(), sep=" | ")
    assert len(np.unique(theirs.labels)) > 4
    assert row.disagreement <= 1e-3
    assert row.input_difference <= 1e-3
    assert row.lowest_dice >= 0.999
