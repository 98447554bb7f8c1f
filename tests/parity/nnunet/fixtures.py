"""What the networks of the parity tests are: plans small enough for seconds, as both frameworks state them.

Weights come from the frameworks' own trainers (`peers`); here are only the numbers around them. Everything differs on
purpose: patches that do not divide the volume, spacings that no CT has, heads for classes that hardly occur.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from orthanc_plugin.catalog.nnunet import Framework

Triple = tuple[float, float, float]
Axes = tuple[int, int, int]

ORGANS = ("esophagus", "heart", "trachea", "aorta")
LOW_HU, HIGH_HU, MEAN_HU, SD_HU = -958.0, 287.0, -210.5, 403.25
TASK_V1 = "Task055_SegTHOR"
DATASET_V2 = "Dataset055_SegTHOR"


class Labels(StrEnum):
    """Classes of a softmax, or regions that overlap."""

    CLASSES = "classes"
    REGIONS = "regions"


@dataclass(frozen=True, slots=True)
class Net:
    """One configuration; tuples in the axes of the network.

    spacing_mm: two numbers for 2d. strides: of each stage after the first. features: of the first stage, then
    doubled. previous: the configuration whose labels enter.
    """

    name: str
    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: int = 6
    residual: bool = False
    previous: str | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Features a stage."""
        return tuple(min(self.features * 2**stage, 32) for stage in range(len(self.kernels)))


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder to be: configurations of one plan with their folds.

    transpose: `transpose_forward`.
    postprocessing: v1, the content of postprocessing.json. task, trained_by: another name than the usual one.
    reader: v2, what reads images.
    """

    framework: Framework
    nets: tuple[Net, ...]
    folds: int = 1
    transpose: Axes = (0, 1, 2)
    labels: Labels = Labels.CLASSES
    mirroring: bool = True
    organs: tuple[str, ...] = ORGANS
    postprocessing: str = ""
    seed: int = 0
    task: str = ""
    trained_by: str = ""
    reader: str = "SimpleITKIO"

    @property
    def name(self) -> str:
        """Task or data set, the name of the folder."""
        return self.task or {Framework.V1: TASK_V1, Framework.V2: DATASET_V2}[self.framework]

    @property
    def backward(self) -> list[int]:
        """`transpose_backward`."""
        return [int(axis) for axis in np.argsort(self.transpose)]

    @property
    def trainer(self) -> str:
        """The v2 trainer of these folds."""
        return self.trained_by or ("nnUNetTrainer" if self.mirroring else "nnUNetTrainerNoMirroring")

    def net(self, name: str) -> Net:
        """The configuration of that name."""
        return next(net for net in self.nets if net.name == name)


_POOLS = ((1, 2, 2), (2, 2, 2))
_KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
PLANAR = Net("2d", (2.9, 3.1), (56, 48), ((2, 2), (2, 2)), ((3, 3),) * 3, features=8)
LOWRES = Net("3d_lowres", (6.3, 6.1, 6.4), (24, 28, 32), _POOLS, _KERNELS)
FULLRES = Net("3d_fullres", (4.6, 3.7, 3.5), (32, 48, 40), _POOLS, _KERNELS)
CASCADE = replace(FULLRES, name="3d_cascade_fullres", previous="3d_lowres")


def dataset_v2(model: Model) -> dict[str, Any]:
    """dataset.json."""
    labels: dict[str, Any] = {"background": 0}
    dataset: dict[str, Any] = {"channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii.gz"}
    if model.labels is Labels.REGIONS:
        count = len(model.organs)
        labels |= {organ: list(range(first, count + 1)) for first, organ in enumerate(model.organs, 1)}
        labels[model.organs[-1]] = count
        dataset["regions_class_order"] = list(range(1, count + 1))
    else:
        labels |= {organ: number for number, organ in enumerate(model.organs, 1)}
    return dataset | {"labels": labels}


def plans_v2(model: Model) -> dict[str, Any]:
    """plans.json."""
    intensities = {"mean": MEAN_HU, "std": SD_HU, "median": -80.0, "min": -1024.0, "max": 3071.0}
    percentiles = {"percentile_00_5": LOW_HU, "percentile_99_5": HIGH_HU}
    return {
        "dataset_name": model.name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 1.0, 1.0],
        "original_median_shape_after_transp": [150, 400, 400],
        "image_reader_writer": model.reader,
        "transpose_forward": list(model.transpose),
        "transpose_backward": model.backward,
        "configurations": {net.name: _configuration_v2(model, net) for net in model.nets},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities | percentiles},
    }


def _configuration_v2(model: Model, net: Net) -> dict[str, Any]:
    kwargs = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": f"nnUNetPlans_{net.name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(net.patch),
        "median_image_size_in_voxels": [120.0, 120.0, 120.0][-len(net.patch) :],
        "spacing": list(net.spacing_mm),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": kwargs,
        "resampling_fn_seg_kwargs": kwargs | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": kwargs | {"order": 1},
        "architecture": _architecture_v2(net),
        "batch_dice": True,
    }
    if net.previous:
        configuration["previous_stage"] = net.previous
    following = [other.name for other in model.nets if other.previous == net.name]
    return configuration | ({"next_stage": following[0]} if following else {})


def _architecture_v2(net: Net) -> dict[str, Any]:
    dimensions, stages = len(net.patch), len(net.kernels)
    blocks = "n_blocks_per_stage" if net.residual else "n_conv_per_stage"
    kwargs = {
        "n_stages": stages,
        "features_per_stage": list(net.channels),
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(kernel) for kernel in net.kernels],
        "strides": [[1] * dimensions, *map(list, net.strides)],
        blocks: [1, 2, 3][:stages] if net.residual else [2] * stages,
        "n_conv_per_stage_decoder": [1 if net.residual else 2] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    module = "residual_unet.ResidualEncoderUNet" if net.residual else "unet.PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.{module}",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def stage_v1(net: Net) -> int:
    """The key of a configuration in `plans_per_stage`: the low resolution comes first where there is one."""
    return 0 if net.name in ("2d", "3d_lowres") else 1


def plans_v1(model: Model, nets: tuple[Net, ...]) -> dict[str, Any]:
    """plans.pkl of the configurations that share one (v1 has one plan for 2d and one for all of 3d)."""
    numbers = list(range(1, len(model.organs) + 1))
    intensities = {
        "median": -80.0,
        "mean": MEAN_HU,
        "sd": SD_HU,
        "mn": -1024.0,
        "mx": 3071.0,
        "percentile_99_5": HIGH_HU,
        "percentile_00_5": LOW_HU,
    }
    stages = {stage_v1(net): _stage_v1(net) for net in nets}
    return {
        "num_stages": len(stages),
        "num_modalities": 1,
        "modalities": {0: "CT"},
        "normalization_schemes": {0: "CT"},
        "dataset_properties": {"all_classes": numbers, "intensityproperties": {0: intensities}},
        "list_of_npz_files": [],
        "original_spacings": [np.array([2.0, 1.0, 1.0])],
        "original_sizes": [np.array([150, 400, 400])],
        "preprocessed_data_folder": "nowhere",
        "num_classes": len(numbers),
        "all_classes": numbers,
        "base_num_features": nets[0].features,
        "use_mask_for_norm": {0: False},
        "keep_only_largest_region": None,
        "min_region_size_per_class": None,
        "min_size_per_class": None,
        "transpose_forward": list(model.transpose),
        "transpose_backward": model.backward,
        "data_identifier": "nnUNetData_plans_v2.1",
        "plans_per_stage": stages,
        "preprocessor_name": "PreprocessorFor2D" if nets[0].name == "2d" else "GenericPreprocessor",
        "conv_per_stage": 2,
    }


def _stage_v1(net: Net) -> dict[str, Any]:
    # The spacing between slices of a 2d plan is a training figure that preprocessing passes over.
    spacing = (5.0, *net.spacing_mm) if len(net.patch) == 2 else net.spacing_mm
    return {
        "batch_size": 2,
        "num_pool_per_axis": [sum(s == 2 for s in axis) for axis in zip(*net.strides, strict=True)],
        # Real files hold floats here.
        "patch_size": np.array(net.patch, float),
        "median_patient_size_in_voxels": np.array([120, 120, 120]),
        "current_spacing": np.array(spacing),
        "original_spacing": np.array([2.0, 1.0, 1.0]),
        "do_dummy_2D_data_aug": False,
        "pool_op_kernel_sizes": [list(stride) for stride in net.strides],
        "conv_kernel_sizes": [list(kernel) for kernel in net.kernels],
    }
