"""Train the head-and-neck network on the OpenKBP patients with nnU-Net v2.

Planner, preprocessing, augmentation, loss and trainer are nnU-Net v2's own; the plan is small enough for two CPU cores.
Each patient is trained twice: as published (blank outside the body) and in air on a couch (`head_neck_data`). One of
five folds is held out. The training can be stopped at any moment; the same command goes on after the last epoch.
Needs the parity environment (`make parity-env`).

Usage: .parity/bin/python scripts/train_head_neck.py DATA OUT [--fold F] [--epochs N | --iterations N] [--threads T]
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from head_neck_data import (
    FOLDS,
    ORGANS,
    SEED,
    Patient,
    framed,
    held_out,
    patient_files,
    read_patient,
    with_surroundings,
)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

DATASET_NUMBER, DATASET = 556, "Dataset556_HeadNeckOAR"
CONFIGURATION = "3d_fullres"
CPU = torch.device("cpu")
EPOCH_ITERATIONS, VALIDATION_ITERATIONS = 25, 3
LEFT, RIGHT = ORGANS["parotid_left"], ORGANS["parotid_right"]


class SmallPlanner(ExperimentPlanner):  # type: ignore[misc]
    """nnU-Net's planner for a network of two CPU cores: 16 to 64 features, patches of about 100,000 voxels."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings | {"suppress_transpose": True, "gpu_memory_target_in_gb": MEMORY_GB})
        self.UNet_base_num_features = 16
        self.UNet_max_features_3d = 64
        self.UNet_featuremap_min_edge_length = 5
        self.lowres_creation_threshold = 0.0

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Only the 3D plan; organs are often absent from a patch, so Dice is taken over the batch."""
        kept = plans["configurations"][CONFIGURATION] | {"batch_dice": True}
        super().save_plans(plans | {"configurations": {CONFIGURATION: kept}})


MEMORY_GB = 0.21
"""What the planner may assume; it decides the patch."""


class HeadNeckTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer for a short schedule: AdamW, organs in most patches, mirrored sides with swapped labels."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = CPU,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = 2e-3
        self.probabilistic_oversampling, self.oversample_foreground_percent = True, 0.7
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = EPOCH_ITERATIONS, VALIDATION_ITERATIONS
        self.save_every = 1
        self.logger.plot_progress_png = lambda _: None  # it costs several steps; ship_head_neck.py writes the curve

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW with nnU-Net's decay of the rate."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=1e-4)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:
        """No mirroring by nnU-Net: it would mix left and right."""
        rotation, dummy_2d, initial_patch, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch, ()

    def on_epoch_start(self) -> None:
        """Random numbers depend on the epoch only, so a resumed training draws what an unbroken one would."""
        seed_everything(SEED + self.current_epoch)
        super().on_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step in bfloat16, twice as fast on a CPU that has it; half of the batches with their sides exchanged."""
        data, target = batch["data"], batch["target"]
        if random.random() < 0.5:  # noqa: S311
            data, target = data.flip(-1), [swapped_sides(labels.flip(-1)) for labels in target]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.network(data)
        loss = self.loss([output.float() for output in outputs], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return {"loss": loss.detach().numpy()}

    def save_checkpoint(self, filename: str) -> None:
        """Write beside, then rename: a stopped training leaves a whole file."""
        super().save_checkpoint(filename + ".part")
        Path(filename + ".part").replace(filename)


def swapped_sides(labels: torch.Tensor) -> torch.Tensor:
    """Labels with left and right parotid exchanged."""
    left, right = labels == LEFT, labels == RIGHT
    return labels.masked_fill(left, RIGHT).masked_fill(right, LEFT)


def seed_everything(seed: int) -> None:
    """All generators that nnU-Net and this script draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def folds(names: list[str]) -> list[dict[str, list[str]]]:
    """nnU-Net's split file: patients, not images, are divided."""
    outs = [held_out(names, fold) for fold in range(FOLDS)]
    return [{"train": images_of(sorted(set(names) - set(out))), "val": images_of(out)} for out in outs]


def images_of(names: list[str]) -> list[str]:
    """Both images of each patient."""
    return [image for name in names for image in (name, f"{name}_couch")]


def write_raw(data: Path, raw: Path, limit: int | None) -> None:
    """Write the dataset in nnU-Net's layout, with its split file."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    files = patient_files(data)[:limit]
    for path in files:
        patient = read_patient(path)
        write_case(raw, patient.name, framed(patient))
        write_case(raw, f"{patient.name}_couch", with_surroundings(patient, SEED))
    labels = {"background": 0, **ORGANS}
    about = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2 * len(files), "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(about, indent=2) + "\n")
    (raw / "splits_final.json").write_text(json.dumps(folds([path.stem for path in files]), indent=2) + "\n")


def write_case(raw: Path, name: str, patient: Patient) -> None:
    """Image and labels as NIfTI."""
    z, y, x = patient.spacing_mm
    voxels = (f"imagesTr/{name}_0000", patient.voxels_hu.astype(np.int16)), (f"labelsTr/{name}", patient.labels)
    for place, array in voxels:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((x, y, z))
        sitk.WriteImage(image, str(raw / f"{place}.nii.gz"))


def prepare(data: Path, out: Path, limit: int | None) -> None:
    """Everything before the training: raw dataset, fingerprint, plan, preprocessed arrays."""
    if not (out / "raw" / DATASET / "splits_final.json").exists():
        write_raw(data, out / "raw" / DATASET, limit)
    extract_fingerprint_dataset(DATASET_NUMBER, num_processes=2, show_progress_bar=False)
    plan_experiment_dataset(DATASET_NUMBER, SmallPlanner)
    preprocess_dataset(DATASET_NUMBER, configurations=(CONFIGURATION,), num_processes=(2,), show_progress_bar=False)
    (out / "prepared").touch()


def train(out: Path, fold: int, epochs: int, iterations: int | None) -> Path:
    """Train, or go on; returns the folder of the fold."""
    folder = out / "preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    results = out / "results" / DATASET / f"{HeadNeckTrainer.__name__}__nnUNetPlans__{CONFIGURATION}" / f"fold_{fold}"
    latest = results / "checkpoint_latest.pth"
    plans["continue_training"] = latest.exists()
    seed_everything(SEED)
    trainer = HeadNeckTrainer(plans, CONFIGURATION, fold, dataset, CPU)
    trainer.num_epochs = epochs
    if iterations is not None:
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, iterations, 1
    if latest.exists():
        trainer.load_checkpoint(str(latest))
    trainer.run_training()
    return results


def main() -> None:
    """Prepare once, then train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path, help="folder with the pt_*.npz files of OpenKBP")
    parser.add_argument("out", type=Path, help="folder for nnU-Net's raw, preprocessed and results folders")
    parser.add_argument("--fold", type=int, default=0, help="the fold that is held out")
    parser.add_argument("--epochs", type=int, default=80, help=f"of {EPOCH_ITERATIONS} iterations")
    parser.add_argument(
        "--iterations", type=int, help="instead of epochs: this many iterations, for a test of the script"
    )
    parser.add_argument("--patients", type=int, help="only the first so many patients, for a test of the script")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str((asked.out / name).resolve())
        (asked.out / name).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(asked.threads)
    if not (asked.out / "prepared").exists():
        prepare(asked.data, asked.out, asked.patients)
    # Batches are made in this process: in order, and without further cores.
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    train(asked.out, asked.fold, asked.epochs, asked.iterations)


if __name__ == "__main__":
    main()
