"""The settings of a model folder in the public layout of BodyPartRegression, without the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.cases.bpr_case import SLOPE, TABLE

START_RAW, END_RAW = -3.25, 4.5
"""Raw scores of pelvis_start and eyes_end, invented."""


def settings(start_raw: float = START_RAW, end_raw: float = END_RAW) -> dict[str, Any]:
    """inference-settings.json."""
    per_score = (end_raw - start_raw) / 100
    transformed = {key: {"mean": mean, "std": sd} for key, (mean, sd) in TABLE.items()}
    original = {key: {"mean": start_raw + mean * per_score, "std": sd * per_score} for key, (mean, sd) in TABLE.items()}
    return {
        "slope_mean": SLOPE,
        "slope_median": SLOPE,
        "slope_std": 0.012,
        "tangential_slope_mean": 0.113,
        "upper_quantile_tangential_slope": 0.25,
        "lower_quantile_tangential_slope": -0.037,
        "lookuptable_train": {"original": original, "transformed": transformed},
        "lookuptable_train_val": {"original": original, "transformed": transformed},
        "settings": {
            "upper_tangential_quantile": 0.995,
            "lower_tangential_quantile": 0.005,
            "start-landmark": "pelvis_start",
            "end-landmark": "eyes_end",
        },
    }


def config() -> dict[str, Any]:
    """config.json, the members of training that its reader knows."""
    return {"batch_size": 64, "lr": 1e-4, "alpha": 0, "base_model": "vgg", "num_slices": 8, "loss_order": "h"}


def write_settings(folder: Path, inference_settings: Mapping[str, Any] | None = None) -> Path:
    """Write `folder` (made if missing) as the publisher's zip unpacks, but for model.pt; reference.xlsx is rubbish."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(), indent=4))
    (folder / "inference-settings.json").write_text(json.dumps(inference_settings or settings(), indent=4))
    (folder / "reference.xlsx").write_bytes(b"nobody reads this")
    return folder
