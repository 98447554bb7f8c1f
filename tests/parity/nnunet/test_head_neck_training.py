"""The training of the head-and-neck network runs, and its scripts make a model of what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import read_card
from tests.support.cases.realct import ROOT, real_ct

SCRIPTS = ROOT / "scripts"

pytestmark = pytest.mark.timeout(900)


def logits(card: ModelCard) -> np.ndarray:
    """Output of a model's one network on noise that is the same each time."""
    assert card.nnunet is not None
    (configuration,) = card.nnunet.parts[0].configurations
    session = onnxruntime.InferenceSession(
        str(card.directory / card.graphs[0].file), providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(1).standard_normal((1, 1, *configuration.patch_size), np.float32)
    return np.asarray(session.run(None, {"image": image})[0])


def test_two_iterations_make_a_model(tmp_path: Path) -> None:
    data, out = real_ct("open_kbp"), tmp_path / "out"
    options = ("--patients", "5", "--iterations", "2", "--threads", "1")
    run = (sys.executable, "-W", "ignore")
    subprocess.run([*run, str(SCRIPTS / "train_head_neck.py"), str(data), str(out), *options], check=True, timeout=900)
    ship = (str(SCRIPTS / "ship_head_neck.py"), str(out), str(tmp_path / "models"), str(data / "LICENSE"))
    subprocess.run([*run, *ship], check=True, timeout=300)
    made = read_card(tmp_path / "models" / "head_neck_oar")
    assert [label.key for label in made.labels] == [
        "spinal_cord",
        "brainstem",
        "mandible",
        "parotid_left",
        "parotid_right",
    ]
    assert {label.key: label.modifier.meaning for label in made.labels if label.modifier} == {
        "parotid_left": "Left",
        "parotid_right": "Right",
    }
    assert made.intended_use.startswith("Research")
    assert np.isfinite(logits(made)).all()
