"""Train the stand-in organ network on thorax phantoms and write it in the layouts of nnU-Net v2 and v1.

The network is a small plain U-Net for heart, aorta, trachea, esophagus and lungs. Preprocessing, network and prediction
are nnU-Net v2's own; patients are seeded phantoms. One training gives both layouts, because biases that v1 lacks stay
zero and all kernels are 3x3x3. The script needs the parity environment (`make parity-env`).

Usage: .parity/bin/python scripts/train_thorax_standin.py OUT [--steps N] [--seed S] [--patients P] [--test T]
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from orthanc_plugin.phantoms.phantom import Phantom
from orthanc_plugin.phantoms.thorax import ORGANS, make_thorax_phantom

SPACING_MM, PATCH, BATCH = 5.0, 40, 2
FEATURES = (16, 32, 64)
"""Features of each stage; they double from stage to stage, as v1 requires."""

MESSAGES = Console(stderr=True, highlight=False)
HEADS = len(ORGANS) + 1
V2 = "Dataset555_ThoraxStandin/nnUNetTrainer__nnUNetPlans__3d_fullres"
V1 = "nnUNet/3d_fullres/Task555_ThoraxStandin/nnUNetTrainerV2_noMirroring__nnUNetPlansv2.1"
TEST_SEEDS = 1_000_000
"""Seeds of held-out phantoms start here; training seeds are lower."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LICENCE = """thorax_standin: a small nnU-Net trained on procedural phantoms. A test model: not for patients.
Copyright (C) 2026 the orthanc-enrichment authors

This model is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. It comes without any warranty. The text of the licence is in the LICENSE file of the project.
"""
_LEARNING_RATE, _WARM_UP, _FOREGROUND = 3e-3, 20, 0.5
_DEEP_SUPERVISION = (1.0, 0.5)

Sample = tuple[np.ndarray, np.ndarray]
"""Normalised image (1, z, y, x) and labels (1, z, y, x) on the network's grid."""


def patient(seed: int) -> Phantom:
    """Make a phantom on a random scanner grid."""
    rng = np.random.default_rng((seed, 1))
    in_plane = float(rng.uniform(2.0, 3.6))
    spacing = (float(rng.uniform(1.5, 5.0)), in_plane, in_plane)
    extent = (float(rng.uniform(230, 330)), *(2 * (float(rng.uniform(330, 390)),)))
    z, y, x = (round(mm / step) for mm, step in zip(extent, spacing, strict=True))
    return make_thorax_phantom((z, y, x), spacing, seed)


def intensities(phantoms: list[Phantom]) -> dict[str, float]:
    """Compute what nnU-Net's fingerprint keeps of the foreground's HU."""
    hu = np.concatenate([phantom.volume.voxels_hu[phantom.labels > 0][::17] for phantom in phantoms])
    low, median, high = (float(value) for value in np.percentile(hu, (0.5, 50.0, 99.5)))
    spread = {"mean": float(hu.mean()), "std": float(hu.std()), "min": float(hu.min()), "max": float(hu.max())}
    return spread | {"median": median, "percentile_00_5": low, "percentile_99_5": high}


def dataset_v2(patients: int) -> dict[str, Any]:
    """Make dataset.json."""
    labels = {"background": 0, **ORGANS}
    return {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": patients, "file_ending": ".nii.gz"}


def plans_v2(foreground: dict[str, float]) -> dict[str, Any]:
    """Make plans.json."""
    resample, kwargs = "resample_data_or_seg_to_shape", {"is_seg": False, "order": 3, "order_z": 0}
    kwargs |= {"force_separate_z": None}
    stages = len(FEATURES)
    network = {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *([[2, 2, 2]] * (stages - 1))],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH,
        "patch_size": [PATCH] * 3,
        "median_image_size_in_voxels": [60.0, 71.0, 71.0],
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resample,
        "resampling_fn_seg": resample,
        "resampling_fn_data_kwargs": kwargs,
        "resampling_fn_seg_kwargs": kwargs | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": resample,
        "resampling_fn_probabilities_kwargs": kwargs | {"order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset555_ThoraxStandin",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 2.8, 2.8],
        "original_median_shape_after_transp": [93, 128, 128],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": foreground},
    }


def samples(phantoms: list[Phantom], plans: dict[str, Any], dataset: dict[str, Any]) -> list[Sample]:
    """Preprocess each phantom like nnU-Net v2."""
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    preprocessor = configuration.preprocessor_class(verbose=False)
    prepared = []
    for phantom in phantoms:
        image, labels = phantom.volume.voxels_hu[None], phantom.labels[None].astype(np.int16)
        properties = {"spacing": list(phantom.volume.spacing_mm)}
        data, seg, _ = preprocessor.run_case_npy(image, labels, properties, manager, configuration, dataset)
        prepared.append((np.asarray(data, np.float32), np.maximum(seg, 0)))
    return prepared


def build_network(plans: dict[str, Any]) -> nn.Module:
    """Build the network of the plans; biases that v1 lacks are zero and stay zero."""
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    network: nn.Module = nnUNetTrainer.build_network_architecture(
        manager, configuration, 1, HEADS, enable_deep_supervision=True
    )
    for module in (*network.decoder.transpconvs, *network.decoder.seg_layers):
        nn.init.zeros_(module.bias)
        module.bias.requires_grad_(False)
    return network


def patches(prepared: list[Sample], rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end; half of the patches are centred on a voxel of a random organ."""
    padded = [tuple(_padded(array) for array in sample) for sample in prepared]
    while True:
        crops = [_crop(*padded[rng.integers(len(padded))], rng) for _ in range(BATCH)]
        images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True))
        gain, shift = (torch.from_numpy(rng.normal(0.0, 0.05, (BATCH, 1, 1, 1, 1)).astype(np.float32)) for _ in "ab")
        yield images * (1 + gain) + shift, labels[:, 0].long()


def _padded(array: np.ndarray) -> np.ndarray:
    """Pad to the size of a patch at least, with zeros like nnU-Net."""
    missing = [max(0, PATCH - size) for size in array.shape[1:]]
    return np.pad(array, [(0, 0), *((n // 2, n - n // 2) for n in missing)])


def _crop(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Sample:
    free = np.array(labels.shape[1:]) - PATCH
    start = rng.integers(0, free + 1)
    if rng.random() < _FOREGROUND:
        voxels = np.argwhere(labels[0] == rng.integers(1, HEADS))
        if len(voxels):
            start = np.clip(voxels[rng.integers(len(voxels))] - PATCH // 2, 0, free)
    window = (slice(None), *(slice(s, s + PATCH) for s in start))
    return image[window], labels[window]


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute cross-entropy minus soft Dice over the batch, foreground only.

    Source
    ------
    Isensee et al., Nature Methods 18 (2021) 203.
    """
    truth = functional.one_hot(labels, HEADS).movedim(-1, 1)[:, 1:]
    probability = logits.softmax(1)[:, 1:]
    axes = (0, 2, 3, 4)
    dice = (2 * (probability * truth).sum(axes) + 1) / (probability.sum(axes) + truth.sum(axes) + 1)
    return functional.cross_entropy(logits, labels) - dice.mean()


def train(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> list[float]:
    """Train and return the losses of all steps: Adam, warm-up, then nnU-Net's rate ((1 - step/steps)^0.9)."""
    network.train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], _LEARNING_RATE)
    losses, began = [], time.monotonic()
    for step in range(steps):
        rate = _LEARNING_RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / steps) ** 0.9
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = next(batches)
        outputs = network(images)
        loss = torch.zeros(())
        for weight, logits in zip(_DEEP_SUPERVISION, outputs, strict=True):
            stride = PATCH // logits.shape[-1]
            loss = loss + weight * dice_and_cross_entropy(logits, labels[:, ::stride, ::stride, ::stride])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        losses.append(float(loss.detach()) / sum(_DEEP_SUPERVISION))
        if step % 10 == 9:
            seconds = time.monotonic() - began
            MESSAGES.print(f"step {step + 1}/{steps} loss {np.mean(losses[-10:]):.4f} {seconds:.0f} s")
    return losses


def write_v2(out: Path, network: nn.Module, plans: dict[str, Any], dataset: dict[str, Any]) -> Path:
    """Write the folder in nnU-Net v2's layout, with what prediction needs."""
    folder = out / V2
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans, indent=2) + "\n")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=2) + "\n")
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": 0},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0/checkpoint_final.pth")
    return folder


def write_v1(out: Path, network: nn.Module, plans: dict[str, Any]) -> Path:
    """Write the same weights in nnU-Net v1's layout."""
    folder = out / V1
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    plans_of_v1 = plans_v1(plans["foreground_intensity_properties_per_channel"]["0"])
    trainer = "nnUNetTrainerV2_noMirroring"
    info = {
        "init": ("plans.pkl", 0, "", "", True, 0, True, False, False),
        "name": trainer,
        "class": f"<class 'nnunet.training.network_training.nnUNet_variants.data_augmentation.{trainer}.{trainer}'>",
        "plans": plans_of_v1,
    }
    (folder / "plans.pkl").write_bytes(pickle.dumps(plans_of_v1, protocol=4))
    (folder / "fold_0/model_final_checkpoint.model.pkl").write_bytes(pickle.dumps(info, protocol=4))
    weights = {_key_v1(key): value for key, value in network.state_dict().items() if _in_v1(key)}
    history: tuple[list[float], ...] = ([], [], [], [])
    torch.save(
        {"epoch": 0, "state_dict": weights, "plot_stuff": history}, folder / "fold_0/model_final_checkpoint.model"
    )
    return folder


def _in_v1(key: str) -> bool:
    """Check that v1 has this weight: it is neither a repetition nor one of the (zero) biases that v1 lacks."""
    repeated = key.startswith("decoder.encoder.") or ".all_modules." in key
    return not repeated and not (
        key.endswith(".bias") and key.startswith(("decoder.transpconvs", "decoder.seg_layers"))
    )


def _key_v1(key: str) -> str:
    """Translate the name of a v2 weight (PlainConvUNet) to v1 (Generic_UNet)."""
    part, kind, index, *rest = key.split(".")
    if kind in ("transpconvs", "seg_layers"):
        return ".".join(({"transpconvs": "tu", "seg_layers": "seg_outputs"}[kind], index, *rest))
    layer, parameter = rest[-2].replace("norm", "instnorm"), rest[-1]
    conv = rest[-3]
    if part == "decoder":
        return f"conv_blocks_localization.{index}.{conv}.blocks.0.{layer}.{parameter}"
    if int(index) == len(FEATURES) - 1:
        return f"conv_blocks_context.{index}.{conv}.blocks.0.{layer}.{parameter}"
    return f"conv_blocks_context.{index}.blocks.{conv}.{layer}.{parameter}"


def plans_v1(foreground: dict[str, float]) -> dict[str, Any]:
    """Make plans.pkl."""
    numbers = list(ORGANS.values())
    properties = {key: value for key, value in foreground.items() if key not in ("std", "min", "max")}
    properties |= {"sd": foreground["std"], "mn": foreground["min"], "mx": foreground["max"]}
    pools = len(FEATURES) - 1
    stage = {
        "batch_size": BATCH,
        "num_pool_per_axis": [pools] * 3,
        "patch_size": np.array([PATCH] * 3),
        "median_patient_size_in_voxels": np.array([60, 71, 71]),
        "current_spacing": np.array([SPACING_MM] * 3),
        "original_spacing": np.array([3.0, 2.8, 2.8]),
        "do_dummy_2D_data_aug": False,
        "pool_op_kernel_sizes": [[2, 2, 2]] * pools,
        "conv_kernel_sizes": [[3, 3, 3]] * (pools + 1),
    }
    return {
        "num_stages": 1,
        "num_modalities": 1,
        "modalities": {0: "CT"},
        "normalization_schemes": {0: "CT"},
        "dataset_properties": {
            "all_sizes": [],
            "all_spacings": [],
            "all_classes": numbers,
            "modalities": {0: "CT"},
            "intensityproperties": {0: properties},
        },
        "list_of_npz_files": [],
        "original_spacings": [],
        "original_sizes": [],
        "preprocessed_data_folder": "",
        "num_classes": len(numbers),
        "all_classes": numbers,
        "base_num_features": FEATURES[0],
        "use_mask_for_norm": {0: False},
        "keep_only_largest_region": None,
        "min_region_size_per_class": None,
        "min_size_per_class": None,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "data_identifier": "nnUNetData_plans_v2.1",
        "plans_per_stage": {0: stage},
        "preprocessor_name": "GenericPreprocessor",
        "conv_per_stage": 2,
    }


def zip_folder(out: Path, top: str, path: Path) -> None:
    """Zip a layout with its licence; the bytes depend on the content only."""
    members = {str(file.relative_to(out)): file.read_bytes() for file in (out / top).rglob("*") if file.is_file()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted((members | {"LICENSE": _LICENCE.encode()}).items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def evaluate(folder: Path, phantoms: list[Phantom]) -> dict[str, list[float]]:
    """Compute the Dice of each organ on each phantom, predicted by nnU-Net v2 from the written folder."""
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"))
    predictor.allow_tqdm = False
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
    scores: dict[str, list[float]] = {organ: [] for organ in ORGANS}
    for phantom in phantoms:
        properties = {"spacing": list(phantom.volume.spacing_mm)}
        found = predictor.predict_single_npy_array(phantom.volume.voxels_hu[None], properties)
        for organ, number in ORGANS.items():
            a, b = found == number, phantom.labels == number
            scores[organ].append(float(2 * (a & b).sum() / max(1, a.sum() + b.sum())))
    return scores


def main() -> None:
    """Train, write and evaluate the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("out", type=Path, help="folder for both layouts and their zips")
    parser.add_argument("--steps", type=int, default=420)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patients", type=int, default=32, help="training phantoms")
    parser.add_argument("--test", type=int, default=4, help="held-out phantoms")
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    phantoms = [patient(asked.seed * 1000 + number) for number in range(asked.patients)]
    MESSAGES.print(f"{len(phantoms)} phantoms")
    dataset, plans = dataset_v2(asked.patients), plans_v2(intensities(phantoms))
    network = build_network(plans)
    MESSAGES.print(f"{sum(p.numel() for p in network.parameters())} parameters")
    batches = patches(samples(phantoms, plans, dataset), np.random.default_rng(asked.seed))
    losses = train(network, batches, asked.steps)
    folder = write_v2(asked.out, network, plans, dataset)
    write_v1(asked.out, network, plans)
    for top, name in ((V2.split("/")[0], "thorax_standin_v2.zip"), (V1.split("/")[0], "thorax_standin_v1.zip")):
        zip_folder(asked.out, top, asked.out / name)
    scores = evaluate(folder, [patient(TEST_SEEDS + number) for number in range(asked.test)])
    dice = {organ: {"mean": np.mean(s), "lowest": np.min(s)} for organ, s in scores.items() if s}
    report = {"seed": asked.seed, "steps": asked.steps, "losses": losses[:: max(1, asked.steps // 50)], "dice": dice}
    (asked.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    MESSAGES.print_json(json.dumps(dice))


if __name__ == "__main__":
    main()
