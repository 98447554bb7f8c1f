"""A MONAI bundle of a small network, as `monai.bundle` lays it out and as its model zoo writes its settings."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from onnx import ModelProto

METADATA: dict[str, Any] = {
    "version": "0.3.2",
    "authors": "tests",
    "intended_use": "Tests only",
    "references": ["Nobody et al."],
    "network_data_format": {
        "inputs": {"image": {"type": "image", "modality": "CT", "num_channels": 1, "spatial_shape": [16, 16, 16]}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": {"0": "Background", "1": "Liver", "2": "spleen"}}},
    },
}
INFERENCE: dict[str, Any] = {
    "imports": ["$import glob"],
    "device": "$torch.device('cpu')",
    "patch": [8, 8, 8],
    "network_def": {"_target_": "UNet", "spatial_dims": 3},
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, -1], "mode": "bilinear"},
            {
                "_target_": "monai.transforms.ScaleIntensityRanged",
                "keys": "image",
                "a_min": -200,
                "a_max": 300,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@patch", "sw_batch_size": 4, "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]},
            {"_target_": "SaveImaged", "keys": "pred"},
        ],
    },
}


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Set, or with None remove, what a path such as `preprocessing.transforms.2` names."""
    made = copy.deepcopy(content)
    *parents, last = path.split(".")
    place: Any = made
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[int(last) if isinstance(place, list) else last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return made


def bundle(
    folder: Path,
    network: ModelProto | None,
    metadata: dict[str, Any] = METADATA,
    inference: dict[str, Any] = INFERENCE,
) -> Path:
    """Write a bundle."""
    root = folder / "bundle"
    for name in ("configs", "models"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (root / "configs" / "inference.json").write_text(json.dumps(inference), encoding="utf-8")
    if network is not None:
        (root / "models" / "model.onnx").write_bytes(network.SerializeToString())
    return root
