"""The stand-in's training: it learns, writes both layouts of nnU-Net, and what is kept came out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Framework
from orthanc_plugin.catalog.reader import verify_model
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.phantoms.thorax import ORGANS

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "train_thorax_standin.py"
KEPT = ROOT / "models" / "thorax_standin"
KEPT_BYTES = 5_000_000
STEPS = 8

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps; the script itself predicts with nnU-Net v2 from the folder that it wrote."""
    out = tmp_path_factory.mktemp("trained")
    options = ("--steps", str(STEPS), "--patients", "2", "--test", "1")
    subprocess.run([sys.executable, "-W", "ignore", str(SCRIPT), str(out), *options], check=True, timeout=900)
    return out


def test_the_loss_falls(trained: Path) -> None:
    losses = json.loads((trained / "report.json").read_text())["losses"]
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_both_layouts_are_one_network(trained: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"  # v1 folders hold no names of labels
    names.write_text(json.dumps({f"label_{number}": organ for organ, number in ORGANS.items()}))
    v1 = convert_model(trained / "thorax_standin_v1.zip", "standin_v1", tmp_path, labels=names)
    v2 = convert_model(trained / "thorax_standin_v2.zip", "standin_v2", tmp_path)
    assert [label.key for label in v1.labels] == [label.key for label in v2.labels] == list(ORGANS)
    assert v1.nnunet is not None
    assert v2.nnunet is not None
    (one,), (other,) = v1.nnunet.parts[0].configurations, v2.nnunet.parts[0].configurations
    assert (one.framework, other.framework) == (Framework.V1, Framework.V2)
    assert one.normalisation == other.normalisation
    assert (one.spacing_mm, one.patch_size, one.mirror_axes) == (other.spacing_mm, other.patch_size, ())
    np.testing.assert_allclose(logits(v1), logits(v2), atol=1e-4)
    assert v1.test_model
    assert v2.test_model


def test_the_kept_weights_convert_to_the_kept_model(tmp_path: Path) -> None:
    kept = find_model("thorax_standin", None)
    verify_model(kept)
    made = convert_model(KEPT / "thorax_standin_v2.zip", "thorax_standin", tmp_path)
    np.testing.assert_allclose(logits(made), logits(kept), atol=1e-4)
    same = replace(made, directory=kept.directory, digest=kept.digest)
    assert same == kept


def test_what_is_kept_is_small_and_calls_itself_a_test_model() -> None:
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < KEPT_BYTES
    card = find_model("thorax_standin", None)
    assert card.test_model
    assert "Test model" in card.intended_use
