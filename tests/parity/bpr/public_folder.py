"""A model folder in the public layout of BodyPartRegression, with seeded weights instead of the published ones.

Scores of random weights are nearly the same for every slice. `fit_head` solves the last layer so that a given volume's
scores rise as they should; what stands before it stays random.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Features of each convolution; a maximum over 2 x 2 ends each block."""

START_RAW, END_RAW = -3.25, 4.5
"""Raw scores of pelvis_start and eyes_end, invented."""

TABLE = {
    "pelvis_start": (0.000, 1.983),
    "femur_end": (13.616, 1.198),
    "L5": (25.532, 1.854),
    "pelvis_end": (28.824, 1.881),
    "L4": (29.414, 2.098),
    "L3": (33.817, 2.290),
    "kidney": (37.597, 4.116),
    "L2": (37.763, 2.335),
    "L1": (41.478, 2.276),
    "lung_start": (44.143, 4.385),
    "Th12": (44.952, 2.287),
    "Th11": (47.725, 2.503),
    "Th10": (51.069, 2.717),
    "Th9": (53.994, 2.613),
    "liver_end": (54.479, 3.986),
    "Th8": (56.856, 2.360),
    "Th7": (59.851, 2.822),
    "Th6": (63.177, 2.404),
    "Th5": (65.964, 2.118),
    "Th4": (68.499, 2.051),
    "Th3": (70.973, 2.038),
    "Th2": (73.401, 1.694),
    "lung_end": (75.389, 1.478),
    "Th1": (75.794, 1.811),
    "C7": (77.937, 1.849),
    "C6": (79.497, 1.637),
    "C5": (81.826, 1.527),
    "C4": (83.817, 1.378),
    "C3": (85.647, 1.472),
    "teeth": (86.908, 3.253),
    "C2": (87.206, 1.327),
    "C1": (89.234, 1.397),
    "nose": (92.567, 5.355),
    "eyes_end": (100.000, 3.789),
    "head_end": (107.756, 1.785),
}
"""Mean and standard deviation of the transformed score, as docs/notebooks of BodyPartRegression print them."""


def random_weights(seed: int, blocks: tuple[tuple[int, ...], ...] = VGG16) -> dict[str, Tensor]:
    """The state dict of bpreg's network; no bias is zero, which would hide a tensor that was mapped wrongly."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        fan = int(np.prod(shape[1:])) or 1
        return torch.randn(shape, generator=generator) * ((2 / fan) ** 0.5 if len(shape) > 1 else 0.1)

    state, layer, before = {}, 0, 1
    for block in blocks:
        for features in block:
            state[f"model.{layer}.weight"] = noise(features, before, 3, 3)
            if layer:
                state[f"model.{layer}.bias"] = noise(features)
            layer, before = layer + 2, features
        layer += 1
    state |= {"conv6.weight": noise(before, before, 1, 1), "conv6.bias": noise(before)}
    return state | {"fc7.weight": noise(1, before), "fc7.bias": noise(1)}


def pooled(state: Mapping[str, Tensor], slices: np.ndarray, blocks: tuple[tuple[int, ...], ...] = VGG16) -> Tensor:
    """What enters the last layer, (N, features); slices (N, 1, size, size) float32."""
    found = []
    with torch.inference_mode():
        for batch in torch.from_numpy(slices).split(16):
            layer = 0
            for block in blocks:
                for _ in block:
                    weight, bias = state[f"model.{layer}.weight"], state.get(f"model.{layer}.bias")
                    batch = functional.conv2d(batch, weight, bias, padding=1).relu()
                    layer += 2
                batch, layer = functional.max_pool2d(batch, 2), layer + 1
            batch = functional.conv2d(batch, state["conv6.weight"], state["conv6.bias"]).relu()
            found.append(batch.mean((2, 3)))
    return torch.cat(found)


def fit_head(
    state: dict[str, Tensor], slices: np.ndarray, scores: np.ndarray, ridge: float = 1e-3
) -> dict[str, Tensor]:
    """The same weights with a last layer that gives these slices about these raw scores.

    Parameters
    ----------
    state : dict
        Of `random_weights`.
    slices : ndarray, shape (N, 1, size, size), float32
        As they enter the network.
    scores : ndarray, shape (N,)
        Raw scores wanted: `START_RAW + t / 100 * (END_RAW - START_RAW)` for a transformed score t.
    ridge : float
        Larger is smoother and less exact.
    """
    features = pooled(state, slices).double()
    centre, spread = features.mean(0), features.std()
    scaled = (features - centre) / spread
    target = torch.from_numpy(np.asarray(scores, float))
    kernel = scaled @ scaled.T + ridge * len(scaled) * torch.eye(len(scaled), dtype=torch.float64)
    weight = scaled.T @ torch.linalg.solve(kernel, target - target.mean()) / spread
    bias = target.mean() - centre @ weight
    return state | {"fc7.weight": weight.float()[None], "fc7.bias": bias.float()[None]}


def settings(start_raw: float = START_RAW, end_raw: float = END_RAW) -> dict[str, Any]:
    """inference-settings.json."""
    per_score = (end_raw - start_raw) / 100
    transformed = {key: {"mean": mean, "std": sd} for key, (mean, sd) in TABLE.items()}
    original = {key: {"mean": start_raw + mean * per_score, "std": sd * per_score} for key, (mean, sd) in TABLE.items()}
    table = {"original": original, "transformed": transformed}
    return {
        "slope_mean": 0.118,
        "slope_median": 0.118,
        "slope_std": 0.012,
        "tangential_slope_mean": 0.113,
        "upper_quantile_tangential_slope": 0.25,
        "lower_quantile_tangential_slope": -0.037,
        "lookuptable_train": table,
        "lookuptable_train_val": table,
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


def write_public_folder(
    folder: Path, state: Mapping[str, Tensor], inference_settings: Mapping[str, Any] | None = None
) -> Path:
    """Write `folder` (made if missing) as the publisher's zip unpacks; reference.xlsx is there, and no workbook."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), folder / "model.pt")
    (folder / "config.json").write_text(json.dumps(config(), indent=4))
    (folder / "inference-settings.json").write_text(json.dumps(inference_settings or settings(), indent=4))
    (folder / "reference.xlsx").write_bytes(b"nobody reads this")
    return folder
