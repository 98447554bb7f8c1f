"""Trained weights against the original frameworks: the stand-in in both layouts, Dice of every organ."""

from __future__ import annotations

import importlib.util
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.conversion.convert import convert_model
from tests.parity.nnunet import peers
from tests.parity.nnunet.cts import Ct
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.whole_volume import segment, trained_row, without_mirroring
from tests.support.cases.realct import ROOT

KEPT = ROOT / "models" / "thorax_standin" / "thorax_standin_v2.zip"
SMALL = {(Framework.V2, "thorax"), (Framework.V1, "thorax")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = [(framework, name) for framework in Framework for name in ("thorax", "cip_ct64", "lidc_0314 5 mm")]
    wanted = [pair for pair in every if pair in SMALL or metafunc.config.getoption("--full")]
    metafunc.parametrize(("framework", "name"), wanted, ids=[f"{framework}: {name}" for framework, name in wanted])


def published(out: Path) -> Path:
    """The stand-in in both layouts: v2 as kept, v1 as v1's own trainer saves the same weights."""
    with zipfile.ZipFile(KEPT) as kept:
        kept.extractall(out)
    spec = importlib.util.spec_from_file_location("training", ROOT / "scripts" / "train_thorax_standin.py")
    assert spec is not None
    assert spec.loader is not None
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    _save_v1(training, out / training.V2, out / "v1" / training.V1)
    return out


def _save_v1(training: Any, source: Path, folder: Path) -> None:
    import torch
    from nnunet.training.network_training.nnUNetTrainerV2 import nnUNetTrainerV2

    plans = training.json.loads((source / "plans.json").read_text())
    folder.mkdir(parents=True)
    plans_v1 = training.plans_v1(plans["foreground_intensity_properties_per_channel"]["0"])
    (folder / "plans.pkl").write_bytes(pickle.dumps(plans_v1))
    # v1's plans name no label; the dataset.json of its task does.
    labels = {str(number): organ for organ, number in training.ORGANS.items()}
    (folder.parent / "dataset.json").write_text(training.json.dumps({"labels": {"0": "background"} | labels}))
    trainer = nnUNetTrainerV2(str(folder / "plans.pkl"), 0, str(folder), str(folder), stage=0)
    trainer.initialize(training=False)
    trainer.initialize_optimizer_and_scheduler()
    kept = torch.load(source / "fold_0" / peers.CHECKPOINT_V2, weights_only=True)["network_weights"]
    wide = trainer.network.state_dict()
    with torch.no_grad():
        for name, tensor in {
            training._key_v1(key): value for key, value in kept.items() if training._in_v1(key)
        }.items():
            wide[name].zero_()
            _widen(wide[name], tensor, two_inputs="localization" in name and ".0.blocks.0.conv.weight" in name)
    trainer.save_checkpoint(str(folder / "fold_0" / f"{peers.CHECKPOINT_V1}.model"))


def _widen(wide: Any, tensor: Any, *, two_inputs: bool) -> None:
    """v1 doubles its features at every stage, the stand-in has fewer: further ones are zero and change nothing.

    The first convolution of a decoder step reads upsampled features, then those of the skip.
    """
    if two_inputs:
        half, part = wide.shape[1] // 2, tensor.shape[1] // 2
        _widen(wide[:, :half], tensor[:, :part], two_inputs=False)
        _widen(wide[:, half:], tensor[:, part:], two_inputs=False)
    else:
        wide[tuple(slice(size) for size in tensor.shape)] = tensor


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
    ours = segment(without_mirroring(card), series.volume)
    theirs = peer.call(peers.predict_folder, folder, series.image, tmp_path / "out")
    row = trained_row(card, framework, series, ours, theirs)
    report(row)
    print(*row.cells(), sep=" | ")
    assert len(np.unique(theirs.labels)) > 4
    assert row.disagreement <= 1e-3
    assert row.input_difference <= 1e-3
    assert row.lowest_dice >= 0.999
