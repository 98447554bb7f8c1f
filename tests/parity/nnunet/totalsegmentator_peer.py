"""Run TotalSegmentator unchanged: canonical orientation, its own resampling, one data set after the other, and back.

For a process of its own (`peers.Peer`): importing it changes nnU-Net v2's predictor to TotalSegmentator's liking.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from tests.parity.nnunet.cts import voxels_of
from tests.parity.nnunet.peers import Prediction, spied


def segment(
    results: Path, datasets: Sequence[int], trainer: str, spacing_mm: float, image: Path, out: Path
) -> Prediction:
    """Segment a NIfTI with data sets below `results`; several are combined as parts of its task `total`."""
    os.environ["nnUNet_results"] = str(results)  # noqa: SIM112
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from totalsegmentator.nnunet import nnUNet_predict_image

    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with spied(nnUNetPredictor, "predict_logits_from_preprocessed_data") as entered:
        nnUNet_predict_image(
            image,
            out,
            list(datasets) if len(datasets) > 1 else datasets[0],
            folds=[0],
            trainer=trainer,
            resample=spacing_mm,
            task_name="total",
            nr_threads_saving=1,
            quiet=True,
            device="cpu",
        )
    return Prediction(voxels_of(out), tuple(entered), time.perf_counter() - start)
