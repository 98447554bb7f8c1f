"""The stand-in's training: it learns, writes the public layout, and the kept files came out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from orthanc_plugin.catalog.bpr import LANDMARKS
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import verify_model
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.conversion.convert import convert_model

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "train_bpr_standin.py"
KEPT = ROOT / "models" / "bpr_standin"
KEPT_BYTES = 1_000_000
STEPS = 90


def scores(card: ModelCard) -> np.ndarray:
    """Compute raw scores of seeded noise."""
    session = onnxruntime.InferenceSession(
        str(card.directory / card.graphs[0].file), providers=["CPUExecutionProvider"]
    )
    slices = np.random.default_rng(1).uniform(-1, 1, (3, 1, 128, 128)).astype(np.float32)
    return np.asarray(session.run(None, {"slices": slices})[0])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train for a few steps."""
    out = tmp_path_factory.mktemp("trained")
    options = ("--steps", str(STEPS), "--bodies", "4", "--held-out", "2")
    subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT), str(out), *options], check=True, timeout=600)
    return out


def test_the_loss_falls(trained: Path) -> None:
    losses = json.loads((trained / "report.json").read_text())["losses"]
    assert len(losses) == STEPS
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])


def test_what_it_writes_converts_to_a_test_model(trained: Path, tmp_path: Path) -> None:
    card = convert_model(trained / "bpr_standin", "few_steps", tmp_path)
    assert card.test_model
    assert card.bpr is not None
    assert {row.key for row in card.bpr.look_up} == set(LANDMARKS)
    from_zip = convert_model(trained / "bpr_standin.zip", "from_zip", tmp_path)
    np.testing.assert_allclose(scores(from_zip), scores(card))


def test_the_kept_weights_convert_to_the_kept_model(tmp_path: Path) -> None:
    kept = find_model("bpr_standin", None)
    verify_model(kept)
    made = convert_model(KEPT / "bpr_standin.zip", "bpr_standin", tmp_path)
    np.testing.assert_allclose(scores(made), scores(kept), atol=1e-4)
    assert replace(made, directory=kept.directory, digest=kept.digest) == kept


def test_what_is_kept_is_small_and_calls_itself_a_test_model() -> None:
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < KEPT_BYTES
    card = find_model("bpr_standin", None)
    assert card.test_model
    assert "Test model" in card.intended_use
