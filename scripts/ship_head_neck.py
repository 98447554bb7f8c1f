"""Make the model `head_neck_oar` of a trained fold: nnU-Net's folder in a zip, the ONNX graph, card and licence.

The zip holds what nnU-Net v2's own predictor needs, without the optimiser. Needs the parity environment.

Usage: .parity/bin/python scripts/ship_head_neck.py OUT MODELS [--fold F] [--checkpoint final|best|latest]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from head_neck_data import ORGANS

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.reader import CARD, read_card
from orthanc_plugin.conversion.convert import convert_model

NAME = "head_neck_oar"
DATASET, CONFIGURATION = "Dataset556_HeadNeckOAR", "3d_fullres"
TRAINED = f"{DATASET}/HeadNeckTrainer__nnUNetPlans__{CONFIGURATION}"
PUBLISHED = f"{DATASET}/nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
"""The trainer of the training is unknown to an installed nnU-Net; its network is that of the ordinary trainer."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


_OVER_CONVERTED = {
    "field": "head-neck",
    "manufacturer": "Orthanc Enrichment",
    "citation": "Data (MIT): Babier et al., OpenKBP, Medical Physics 48 (2021) 5549, doi:10.1002/mp.14845; "
    "this project, scripts/train_head_neck.py; "
    "Isensee et al., nnU-Net, Nature Methods 18 (2021) 203, doi:10.1038/s41592-020-01008-z",
    "intended_use": "Research: organs at risk of the head and neck on CT for radiotherapy planning. Not for diagnosis, "
    "and not for planning a treatment.",
    "limits": [
        "Mean Dice on 20 patients that training never saw is 0.87 for the mandible, 0.79 for the brainstem, "
        "0.77 and 0.75 for the parotids and 0.76 for the spinal cord.",
        "Trained on 79 patients with cancer of the head or neck: planning CT of about 3.9 x 3.9 x 2.5 mm, supine. "
        "Children, other positions, finer CT and other parts of the body are not tested.",
        "The experts' contours are clinical and of several hospitals; the lower end of the spinal cord is arbitrary.",
        "The training images are blank outside the body; couch, head rest and mask were drawn, never scanned.",
        "It runs only where bone encloses a brain, from 360 mm below to 120 mm above; other scans are left out.",
        "Small organs on a grid of about 4 mm: Dice says little of their surface; check every contour.",
    ],
}

LICENCE = "AGPL-3.0-or-later"
_LICENCE_TEXT = """head_neck_oar: a small nnU-Net trained on the head and neck patients of OpenKBP. Research use only.
Copyright (C) 2026 the orthanc-enrichment authors

This model is free software: you can redistribute it and/or modify it under the terms of the GNU Affero General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. It comes without any warranty. The text of the licence is in the LICENSE file of the project.

It was trained on data of OpenKBP (https://github.com/ababier/open-kbp), which this folder does not contain. Cite
Babier A, Zhang B, Mahmood R, et al. OpenKBP: the open-access knowledge-based planning grand challenge and dataset.
Medical Physics 2021;48:5549-5561. The licence of the data:

MIT License

"""


def write_curve(state: dict[str, Any], target: Path) -> None:
    """Write what the training logged of each epoch: losses, and Dice of the organs on patches of the held-out fold."""
    log = state["logging"]
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "training_loss", "validation_loss", *ORGANS])
        rows = zip(log["train_losses"], log["val_losses"], log["dice_per_class_or_region"], strict=False)
        for epoch, (training, validation, dice) in enumerate(rows, 1):
            writer.writerow([epoch, *(f"{float(value):.4f}" for value in (training, validation, *dice))])


def write_zip(out: Path, fold: int, checkpoint: str, target: Path) -> None:
    """Zip the folder that nnU-Net's predictor reads; the bytes depend on the content only."""
    trained = out / "results" / TRAINED
    state = torch.load(
        trained / f"fold_{fold}" / f"checkpoint_{checkpoint}.pth", map_location="cpu", weights_only=False
    )
    write_curve(state, out / "learning_curve.csv")
    kept = {
        "network_weights": state["network_weights"],
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "fold": fold},
        "inference_allowed_mirroring_axes": None,
    }
    weights = io.BytesIO()
    torch.save(kept, weights)
    plans = json.loads((trained / "plans.json").read_text())
    dataset = json.loads((trained / "dataset.json").read_text())
    members = {
        f"{PUBLISHED}/plans.json": json.dumps(plans, indent=2).encode() + b"\n",
        f"{PUBLISHED}/dataset.json": json.dumps(dataset, indent=2).encode() + b"\n",
        f"{PUBLISHED}/fold_{fold}/checkpoint_final.pth": weights.getvalue(),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def install(weights: Path, models: Path) -> ModelCard:
    """Convert the zip and complete the card with what the converter cannot know.

    Each organ is one piece: what else the network marks is removed, as nnU-Net's postprocessing does.
    """
    made = convert_model(weights, NAME, models, licence=LICENCE, replace=True)
    path = made.directory / CARD
    card = json.loads(path.read_text()) | _OVER_CONVERTED
    for part in card["nnunet"]["parts"]:
        part["postprocessing"] = [{"numbers": [number]} for number in ORGANS.values()]
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return read_card(made.directory)


def main() -> None:
    """Write the zip, convert it, add the licence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("out", type=Path, help="folder of the training")
    parser.add_argument("models", type=Path, help="folder for the model's folder")
    parser.add_argument("data_licence", type=Path, help="LICENSE file of OpenKBP")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--checkpoint", choices=("final", "best", "latest"), default="final")
    asked = parser.parse_args()
    weights = asked.out / f"{NAME}_v2.zip"
    write_zip(asked.out, asked.fold, asked.checkpoint, weights)
    card = install(weights, asked.models)
    (card.directory / weights.name).write_bytes(weights.read_bytes())
    terms = asked.data_licence.read_text().strip().removeprefix("MIT License").strip()
    (card.directory / "LICENSE").write_text(f"{_LICENCE_TEXT}{terms}\n")


if __name__ == "__main__":
    main()
