"""Train the stand-in of body part regression on procedural bodies and write it in BodyPartRegression's public layout.

The network is the original's with fewer channels. It is trained with the original's order loss and distance loss: it
learns the distance between two slices of a scan, never their place. The look-up table comes from bodies that were not
trained on. The script needs the parity environment (`make parity-env`).

Usage: .parity/bin/python scripts/train_bpr_standin.py OUT [--steps N] [--seed S] [--bodies B] [--held-out H]
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from orthanc_plugin.catalog.bpr import END, LANDMARKS, START, BprModel
from orthanc_plugin.conversion.bpr_network import BodyPartRegression
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.bpr.slices import slice_batches
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.phantoms.thorax import make_thorax_phantom
from tests.support.phantoms.body import WHOLE_MM, make_body_phantom

logger = logging.getLogger("train_bpr_standin")

CHANNELS = (8, 8, 16, 16, 24, 24, 24, 32, 32, 32, 32, 32, 32, 64)
ALPHA_H, BETA_H, ALPHA = 1.0, 0.025, 0.001
SCANS, SLICES, STEP_MM = 4, 8, (10.0, 120.0)
RATE, WARM_UP = 2e-3, 50
HELD_OUT = 1_000_000
"""Seeds of bodies for the look-up table start here; training seeds are lower."""
NAME = "bpr_standin"
SMOOTHING_MM, QUANTILES = 10.0, (0.005, 0.995)
PICTURE = BprModel(0.0, 1.0, (), 1.0, 0.0, 1.0, (), source=())
"""Preparation of slices: the original's pixel size, side and window."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LICENCE = """bpr_standin: a small body part regression trained on procedural phantoms. A test model: not for patients.
Copyright (C) 2026 the orthanc-enrichment authors

This model is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. It comes without any warranty. The text of the licence is in the LICENSE file of the project.
"""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scan:
    """Prepared slices, (n, 1, size, size) float16, and their LPS z. levels_mm: known landmarks."""

    pictures: NDArray[np.float16]
    z_mm: Values
    levels_mm: dict[str, float]


def body(seed: int, heights_mm: tuple[float, float] = WHOLE_MM) -> Scan:
    """Make a whole body on a random scanner grid."""
    rng = np.random.default_rng((seed, 1))
    in_plane = float(rng.uniform(2.5, 5.0))
    made = make_body_phantom(seed, heights_mm, (float(rng.uniform(6.0, 10.0)), in_plane, in_plane))
    return _scan(made.phantom.volume, dict(made.levels_mm))


def chest(seed: int) -> Scan:
    """Make one of the project's two chest phantoms in turn, so that the network also knows what the demo shows."""
    rng = np.random.default_rng((seed, 2))
    shape = (int(rng.integers(30, 50)), *(2 * (int(rng.integers(64, 140)),)))
    return _scan((make_thorax_phantom if seed % 2 else make_phantom)(shape, seed=seed).volume, {})


def _scan(volume: Volume, levels_mm: dict[str, float]) -> Scan:
    count = len(volume.voxels_hu)
    batches = slice_batches(volume.voxels_hu, volume.spacing_mm[1:], range(count), PICTURE, 16)
    z_mm = volume.affine[2, 3] + volume.spacing_mm[0] * np.arange(count)
    return Scan(np.concatenate(list(batches)).astype(np.float16), z_mm, levels_mm)


def batches(scans: Sequence[Scan], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield without end slices (SCANS, SLICES, size, size), about evenly spaced in each scan, and their z."""
    while True:
        drawn = [_drawn(scans[int(rng.integers(len(scans)))], rng) for _ in range(SCANS)]
        pictures, z_mm = (np.stack(arrays).astype(np.float32) for arrays in zip(*drawn, strict=True))
        yield torch.from_numpy(pictures), torch.from_numpy(z_mm)


def _drawn(scan: Scan, rng: np.random.Generator) -> tuple[NDArray[np.float32], Values]:
    """Shift slices of one scan in the plane, change their brightness and add noise."""
    extent = float(np.ptp(scan.z_mm))
    step = rng.uniform(min(STEP_MM[0], extent / SLICES), min(STEP_MM[1], extent / SLICES))
    first = scan.z_mm[0] + rng.uniform(0, extent - step * (SLICES - 1))
    wanted = first + step * np.arange(SLICES)
    at = np.abs(scan.z_mm - wanted[:, None]).argmin(1)
    pictures = scan.pictures[at, 0].astype(np.float32)
    pictures = np.roll(pictures, tuple(rng.integers(-5, 6, 2)), (1, 2))
    pictures = pictures * rng.uniform(0.95, 1.05) + rng.uniform(-0.03, 0.03)
    pictures += rng.uniform(0.0, 0.01) * rng.standard_normal(pictures.shape, np.float32)
    return np.clip(pictures, -1, 1), scan.z_mm[at]


def order_loss(scores: Tensor, z_mm: Tensor) -> Tensor:
    """Compute the heuristic order loss plus a loss for uneven scores of evenly spaced slices.

    Source
    ------
    Schuhegger et al., Body part regression for CT images, arXiv:2110.09148.
    """
    steps, distances = scores.diff(dim=1), z_mm.diff(dim=1)
    order = functional.mse_loss(torch.sigmoid(ALPHA_H * steps), torch.sigmoid(BETA_H * distances))
    return order + ALPHA * functional.smooth_l1_loss(steps[:, 1:], steps[:, :-1])


def train(network: nn.Module, data: Iterator[tuple[Tensor, Tensor]], steps: int) -> list[float]:
    """Train and return the losses of all steps: Adam, warm-up, then a rate that falls linearly."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    losses, began = [], time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
        pictures, z_mm = next(data)
        scores = network(pictures.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)).view(
            SCANS, SLICES
        )
        loss = order_loss(scores, z_mm)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 20 == 19:
            logger.info("step %d/%d loss %.5f %.0f s", step + 1, steps, np.mean(losses[-20:]), time.monotonic() - began)
    return losses


def scored(network: nn.Module, scan: Scan) -> Values:
    """Compute raw scores of all slices."""
    network.eval()
    with torch.inference_mode():
        parts = torch.from_numpy(scan.pictures.astype(np.float32)).split(16)
        return np.asarray(torch.cat([network(part)[:, 0] for part in parts]).double())


def inference_settings(scans: Sequence[Scan], scores: Sequence[Values]) -> dict[str, Any]:
    """Make inference-settings.json: scores at the known levels, and how fast scores rise."""
    at_levels = {
        key: np.array([np.interp(scan.levels_mm[key], scan.z_mm, s) for scan, s in zip(scans, scores, strict=True)])
        for key in LANDMARKS
    }
    start, end = at_levels[START].mean(), at_levels[END].mean()
    original = {key: _row(values) for key, values in at_levels.items()}
    transformed = {key: _row((values - start) * 100 / (end - start)) for key, values in at_levels.items()}
    slopes, tangential = [], []
    for scan, raw in zip(scans, scores, strict=True):
        within = (scan.z_mm > scan.levels_mm[START]) & (scan.z_mm < scan.levels_mm[END])
        z_mm, values = scan.z_mm[within], (raw[within] - start) * 100 / (end - start)
        slopes.append(np.polyfit(z_mm, values, 1)[0])
        smooth = ndimage.gaussian_filter1d(values, SMOOTHING_MM / np.diff(z_mm)[0])
        tangential.append(np.diff(smooth) / np.diff(z_mm))
    lowest, highest = np.quantile(np.concatenate(tangential), QUANTILES)
    table = {"original": original, "transformed": transformed}
    return {
        "slope_mean": float(np.mean(slopes)),
        "slope_median": float(np.median(slopes)),
        "slope_std": float(np.std(slopes)),
        "tangential_slope_mean": float(np.mean(np.concatenate(tangential))),
        "lower_quantile_tangential_slope": float(lowest),
        "upper_quantile_tangential_slope": float(highest),
        "lookuptable_train": table,
        "lookuptable_train_val": table,
        "settings": {
            "lower_tangential_quantile": QUANTILES[0],
            "upper_tangential_quantile": QUANTILES[1],
            "start-landmark": START,
            "end-landmark": END,
        },
    }


def _row(values: Values) -> dict[str, float]:
    return {"mean": float(values.mean()), "std": float(values.std())}


def write_layout(folder: Path, network: nn.Module, settings: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the folder in BodyPartRegression's public layout, and a zip of it beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "inference-settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    torch.save(network.to(memory_format=torch.contiguous_format).state_dict(), folder / "model.pt")
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        members = {f"{folder.name}/{file.name}": file.read_bytes() for file in folder.iterdir()}
        for name, content in sorted((members | {"LICENSE": _LICENCE.encode()}).items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def _initialised(network: BodyPartRegression) -> BodyPartRegression:
    """Initialise weights so that thirteen layers of ReLU without normalisation keep the signal's size."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _errors_mm(scans: Sequence[Scan], scores: Sequence[Values], settings: dict[str, Any]) -> dict[str, float]:
    """Compute the mean distance between each landmark's level by score and its true level."""
    found: dict[str, list[float]] = {key: [] for key in LANDMARKS}
    for scan, raw in zip(scans, scores, strict=True):
        rising = np.maximum.accumulate(ndimage.gaussian_filter1d(raw, SMOOTHING_MM / np.diff(scan.z_mm)[0]))
        for key, row in settings["lookuptable_train_val"]["original"].items():
            found[key].append(abs(float(np.interp(row["mean"], rising, scan.z_mm)) - scan.levels_mm[key]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def main() -> None:
    """Train, measure and write the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the layout, its zip and the report")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bodies", type=int, default=48, help="to train on; as many chests come on top")
    parser.add_argument(
        "--held-out", type=int, default=24, help="bodies for the look-up table; half of that to measure"
    )
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(asked.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    first = asked.seed * 1000
    scans = [body(first + n) for n in range(asked.bodies)] + [chest(first + n) for n in range(asked.bodies)]
    network = _initialised(BodyPartRegression(CHANNELS)).to(memory_format=torch.channels_last)
    logger.info("%d scans, %d parameters", len(scans), sum(p.numel() for p in network.parameters()))
    losses = train(network, batches(scans, np.random.default_rng(asked.seed)), asked.steps)
    held_out = [body(HELD_OUT + n) for n in range(asked.held_out)]
    settings = inference_settings(held_out, [scored(network, scan) for scan in held_out])
    config = {"base_model": "vgg", "loss_order": "h", "alpha_h": ALPHA_H, "beta_h": BETA_H, "alpha": ALPHA}
    config |= {"lr": RATE, "batch_size": SCANS, "num_slices": SLICES, "seed": asked.seed, "steps": asked.steps}
    write_layout(asked.out / NAME, network, settings, config)
    others = [body(2 * HELD_OUT + n) for n in range(asked.held_out // 2)]
    errors = _errors_mm(others, [scored(network, scan) for scan in others], settings)
    report = {"losses": losses, "error_mm": errors, "mean_error_mm": float(np.mean(list(errors.values())))}
    (asked.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    logger.info("landmarks of other bodies lie %.1f mm off on average", report["mean_error_mm"])


if __name__ == "__main__":
    main()
