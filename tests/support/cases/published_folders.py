"""Published nnU-Net folders made by hand: the plans of SegTHOR as its planner derives them, and a small v2 set."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TRAINER_V1 = "nnUNetTrainerV2__nnUNetPlansv2.1"
CASCADE_V1 = "nnUNetTrainerV2CascadeFullRes__nnUNetPlansv2.1"
ORGANS = ("esophagus", "heart", "trachea", "aorta")


def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (values | changes).items() if value is not None}


def stage_v1(patch: tuple[int, ...], spacing: tuple[float, ...], **changes: Any) -> dict[str, Any]:
    """One stage: the strides and kernels of SegTHOR in 3d, of a small network in 2d; changes: None removes a key."""
    if len(patch) == 3:
        pools, kernels = [[1, 2, 2], *[[2, 2, 2]] * 4], [[1, 3, 3], *[[3, 3, 3]] * 5]
    else:
        pools, kernels = [[2, 2]] * 6, [[3, 3]] * 7
    stage = {
        "batch_size": 2,
        "num_pool_per_axis": [4, 5, 5] if len(patch) == 3 else [6, 6],
        "patch_size": np.array(patch, float),
        "median_patient_size_in_voxels": np.array([178, 512, 512]),
        "current_spacing": np.array(spacing),
        "original_spacing": np.array([2.5, 0.97656202, 0.97656202]),
        "do_dummy_2D_data_aug": False,
        "pool_op_kernel_sizes": pools,
        "conv_kernel_sizes": kernels,
    }
    return _changed(stage, changes)


LOWRES_STAGE = stage_v1((80, 192, 160), (3.577, 1.792, 1.792))
FULLRES_STAGE = stage_v1((64, 192, 160), (2.5, 0.97656202, 0.97656202))
PLANAR_STAGE = stage_v1((512, 448), (2.5, 0.97656202, 0.97656202))


def plans_v1(*stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """plans.pkl; changes: None removes a key."""
    intensities = {"mean": -102.5, "sd": 230.25, "median": 20.0, "mn": -1024.0, "mx": 3071.0}
    plans = {
        "num_stages": len(stages),
        "num_modalities": 1,
        "modalities": {0: "CT"},
        "normalization_schemes": {0: "CT"},
        "dataset_properties": {
            "intensityproperties": {0: {**intensities, "percentile_00_5": np.float64(-996.0), "percentile_99_5": 213.5}}
        },
        "num_classes": 4,
        "all_classes": [1, 2, 3, 4],
        "base_num_features": 32,
        "use_mask_for_norm": {0: False},
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "plans_per_stage": dict(enumerate(stages)),
        "preprocessor_name": "GenericPreprocessor" if len(stages[0]["patch_size"]) == 3 else "PreprocessorFor2D",
        "conv_per_stage": 2,
    }
    return _changed(plans, changes)


def write_v1(
    root: Path,
    configuration: str,
    plans: dict[str, Any],
    *,
    stage: int | None = 0,
    folds: tuple[str, ...] = ("fold_0",),
    trainer: str = TRAINER_V1,
    task: str = "Task055_SegTHOR",
) -> Path:
    """A trainer's folder in v1 layout, its checkpoints empty; root: the folder that holds `nnUNet`."""
    folder = root / "nnUNet" / configuration / task / trainer
    name = trainer.partition("__")[0]
    arguments = ("/elsewhere/plans.pkl", 0, "/elsewhere", "/elsewhere", True, stage, True, False)
    arguments += ("nnUNetTrainerV2", True) if "Cascade" in name else (True,)
    for fold in folds:
        (folder / fold).mkdir(parents=True)
        (folder / fold / "model_final_checkpoint.model").touch()
        content = {"init": arguments, "name": name, "class": f"<class '{name}'>", "plans": plans}
        (folder / fold / "model_final_checkpoint.model.pkl").write_bytes(pickle.dumps(content))
    (folder / "plans.pkl").write_bytes(pickle.dumps(plans))
    return folder


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint says, where no checkpoint can be read for want of torch."""

    configuration: str
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    trainer_name: str = "nnUNetTrainer"


def header_of_folder(checkpoint: Path) -> Header:
    """The configuration that the folder's name gives."""
    return Header(checkpoint.parent.parent.name.rpartition("__")[2])


RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def architecture(**changes: Any) -> dict[str, Any]:
    """A small PlainConvUNet; changes: of `arch_kwargs`."""
    arguments = {
        "n_stages": 3,
        "features_per_stage": [32, 64, 128],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": arguments | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration_v2(**changes: Any) -> dict[str, Any]:
    """3d_fullres of plans.json; changes: None removes a key."""
    values = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [32, 64, 48],
        "spacing": [2.5, 0.9, 0.8],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": RESAMPLING | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": RESAMPLING | {"order": 1},
        "architecture": architecture(),
    }
    return _changed(values, changes)


def plans_v2(configurations: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """plans.json; changes: None removes a key."""
    intensities = {"mean": -102.5, "std": 230.25, "percentile_00_5": -996.0, "percentile_99_5": 213.5}
    values = {
        "dataset_name": "Dataset100_Organs",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "transpose_backward": [1, 0, 2],
        "configurations": dict(configurations),
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }
    return _changed(values, changes)


def dataset_v2(labels: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """dataset.json of the four organs, or of other labels."""
    numbers = labels or {"background": 0} | {organ: number for number, organ in enumerate(ORGANS, start=1)}
    return {"channel_names": {"0": "CT"}, "labels": dict(numbers), "file_ending": ".nii.gz"} | changes


def write_v2(
    root: Path,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    *,
    configuration: str = "3d_fullres",
    folds: tuple[str, ...] = ("fold_0",),
    trainer: str = "nnUNetTrainer",
    name: str = "Dataset100_Organs",
) -> Path:
    """A trainer's folder in v2 layout, its checkpoints empty; root: the folder that holds data sets."""
    folder = root / name / f"{trainer}__nnUNetPlans__{configuration}"
    for fold in folds:
        (folder / fold).mkdir(parents=True)
        (folder / fold / "checkpoint_final.pth").touch()
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder
