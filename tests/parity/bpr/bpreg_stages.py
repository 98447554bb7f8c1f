"""Stages of bpreg's own inference, called one by one in its process (`Peer.call`)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.bpr.peers import _model


def judged(folder: Path, scores: np.ndarray, spacing_mm: float) -> dict[str, Any]:
    """The JSON for raw scores (N,) of slices that far apart."""
    from bpreg.inference.inference_model import VolumeStorage

    model = _model(folder)
    found: dict[str, Any] = VolumeStorage(model.parse_scores(scores, spacing_mm), model.lookuptable).json
    return found


def timed(folder: Path, voxels: Path, spacing_mm: tuple[float, float, float]) -> tuple[dict[str, float], np.ndarray]:
    """Seconds of each stage for a volume in memory (`cpu`: of all threads), and the raw scores.

    What `nifti2json` does after it has read the file. `voxels`: a .npy file (z, y, x) float32; spacing (z, y, x).
    """
    import torch

    model = _model(folder)
    volume = np.load(voxels).transpose(2, 1, 0)  # the memory order in which nibabel gives (x, y, z)
    seconds = {}
    start, cpu = time.perf_counter(), time.process_time()
    slices = model.n2n.resize_volume(model.n2n.rescale_xy(volume), np.array(spacing_mm[::-1]))
    tensor = torch.tensor(np.transpose(slices, (2, 0, 1))[:, np.newaxis])
    seconds["slices"] = time.perf_counter() - start
    scores = model.predict_tensor(tensor)
    seconds["network"] = time.perf_counter() - start - seconds["slices"]
    judged(folder, scores, spacing_mm[0])
    seconds |= {"whole": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return seconds, scores
