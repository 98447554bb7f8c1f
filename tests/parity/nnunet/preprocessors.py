"""Run the preprocessors of nnU-Net v1, v2 and TotalSegmentator unchanged in their own process (`peers.Peer`).

Each function takes files and gives what enters the network; only the frameworks' public classes and the functions of
their own prediction queues are called.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Scheme

_SCHEMES_V1 = {Scheme.CT: "CT", Scheme.ZSCORE: "nonCT", Scheme.NONE: "noNorm"}
_SCHEMES_V2 = {Scheme.CT: "CTNormalization", Scheme.ZSCORE: "ZScoreNormalization", Scheme.NONE: "NoNormalization"}


def prepared(image: Path, configuration: Configuration, labels: Path | None = None, count: int = 0) -> np.ndarray:
    """(channels, z, y, x) that the framework gives its network; labels 1 to `count` of a first stage."""
    framework = _v1 if configuration.framework is Framework.V1 else _v2
    return framework(str(image), configuration, None if labels is None else str(labels), count)


def _v1(image: str, configuration: Configuration, labels: str | None, count: int) -> np.ndarray:
    from nnunet.inference.predict import preprocess_save_to_queue
    from nnunet.preprocessing.preprocessing import GenericPreprocessor, PreprocessorFor2D

    rule = configuration.normalisation
    kind = PreprocessorFor2D if configuration.planar else GenericPreprocessor
    preprocessor = kind(
        {0: _SCHEMES_V1[rule.scheme]},
        {0: rule.use_mask},
        list(configuration.transpose_forward),
        {0: _intensities(configuration, "sd")},
    )
    # v1 keeps spacings as arrays and fills in the first of 2d itself.
    spacing = np.asarray([mm or 1.0 for mm in configuration.spacing_mm])
    force = configuration.data_resampling.force_separate_z
    out: queue.Queue[Any] = queue.Queue()
    preprocess_save_to_queue(
        lambda files: preprocessor.preprocess_test_case(files, spacing.copy(), force_separate_z=force),
        out,
        [[image]],
        ["case.nii.gz"],
        [labels],
        list(range(1, count + 1)),
        configuration.transpose_forward,
    )
    _, (data, _) = out.get()
    return np.asarray(data)


def _v2(image: str, configuration: Configuration, labels: str | None, count: int) -> np.ndarray:
    from nnunetv2.inference.data_iterators import preprocess_fromfiles_save_to_queue
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(_plans(configuration))
    names = {"background": 0} | {f"organ {number}": number for number in range(1, max(count, 1) + 1)}
    out: queue.Queue[Any] = queue.Queue()
    preprocess_fromfiles_save_to_queue(
        [[image]],
        [labels],
        None,
        plans,
        {"channel_names": {"0": "CT"}, "labels": names, "file_ending": ".nii.gz"},
        plans.get_configuration("wanted"),
        out,
        threading.Event(),
        threading.Event(),
    )
    return np.asarray(out.get()["data"])


def _plans(configuration: Configuration) -> dict[str, Any]:
    rule, resampling = configuration.normalisation, configuration.data_resampling
    arguments = {"order_z": resampling.order_z, "force_separate_z": resampling.force_separate_z}
    order_labels = configuration.previous.order if configuration.previous else 1
    return {
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": list(configuration.transpose_forward),
        "transpose_backward": list(configuration.transpose_backward),
        "foreground_intensity_properties_per_channel": {"0": _intensities(configuration, "std")},
        "configurations": {
            "wanted": {
                "preprocessor_name": "DefaultPreprocessor",
                "architecture": {},
                "spacing": [mm for mm in configuration.spacing_mm if mm is not None],
                "patch_size": list(configuration.patch_size),
                "normalization_schemes": [_SCHEMES_V2[rule.scheme]],
                "use_mask_for_norm": [rule.use_mask],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"is_seg": False, "order": resampling.order} | arguments,
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {"is_seg": True, "order": order_labels} | arguments,
            }
        },
    }


def _intensities(configuration: Configuration, sd: str) -> dict[str, float]:
    rule = configuration.normalisation
    return {
        "mean": rule.mean_hu,
        sd: rule.sd_hu,
        "percentile_00_5": rule.low_hu,
        "percentile_99_5": rule.high_hu,
    }


def to_frame(image: Path, spacing_mm: float, out: Path) -> tuple[int, ...]:
    """Write TotalSegmentator's canonical, resampled image; the shape of the canonical one (x, y, z)."""
    import nibabel
    from totalsegmentator.alignment import as_closest_canonical
    from totalsegmentator.resampling import change_spacing

    canonical = as_closest_canonical(nibabel.load(image))
    spacing = [spacing_mm] * 3
    nibabel.save(change_spacing(canonical, spacing, order=1, dtype=np.int32, nr_cpus=1), out)
    return tuple(canonical.shape)


def from_frame(labels: Path, image: Path, spacing_mm: float, shape: Sequence[int], out: Path) -> None:
    """Write TotalSegmentator's labels of that frame on the grid of the original image."""
    import nibabel
    from totalsegmentator.alignment import as_closest_canonical, undo_canonical
    from totalsegmentator.resampling import change_spacing

    original = nibabel.load(image)
    affine = as_closest_canonical(original).affine
    spacing = [spacing_mm] * 3
    back = change_spacing(nibabel.load(labels), spacing, shape, order=0, dtype=np.uint8, nr_cpus=1, force_affine=affine)
    nibabel.save(undo_canonical(back, original), out)
