"""A model folder in the public layout of BodyPartRegression, with seeded weights instead of the published ones.

Scores of random weights are nearly the same for every slice. `fit_head` solves the last layer so that a given volume's
scores rise as they should; what stands before it stays random.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.cases.bpr_folder import END_RAW, START_RAW, settings, write_settings

__all__ = ["END_RAW", "START_RAW", "VGG16", "fit_head", "random_weights", "settings", "write_public_folder"]

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Features of each convolution; a maximum over 2 x 2 ends each block."""


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


def write_public_folder(
    folder: Path, state: Mapping[str, Tensor], inference_settings: Mapping[str, Any] | None = None
) -> Path:
    """Write `folder` (made if missing) as the publisher's zip unpacks."""
    torch.save(dict(state), write_settings(folder, inference_settings) / "model.pt")
    return folder
