"""A MONAI bundle of a small network, as `monai.bundle` lays it out and as its model zoo writes its settings."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml
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
    ending: str = "json",
) -> Path:
    """Write a bundle; with another ending its settings are YAML."""
    root = folder / "bundle"
    for name in ("configs", "models"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    text = json.dumps(inference) if ending == "json" else yaml.safe_dump(inference)
    (root / "configs" / f"inference.{ending}").write_text(text, encoding="utf-8")
    if network is not None:
        (root / "models" / "model.onnx").write_bytes(network.SerializeToString())
    return root


def zoo_metadata(names: list[str], **output: Any) -> dict[str, Any]:
    """Describe a network on CT as the model zoo does: names of its outputs, and what is said of them."""
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1, "dtype": "float32"}
    named = {str(number): name for number, name in enumerate(names)}
    found = {"type": "image", "format": "segmentation", "num_channels": len(names), "channel_def": named} | output
    return {
        "version": "0.2.0",
        "task": "a task",
        "authors": "MONAI team",
        "intended_use": "An example",
        "references": ["First", "Second"],
        "network_data_format": {
            "inputs": {"image": image | {"spatial_shape": [96, 96, 96], "channel_def": {"0": "image"}}},
            "outputs": {"pred": found},
        },
    }


def zoo_inference(
    before: list[dict[str, Any]], *, inferer: dict[str, Any], after: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    """Write inference settings as the model zoo does, with all that a conversion does not need."""
    load = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
    invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
    usual = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        invert | {"nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ]
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*load, *before]},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": usual if after is None else after},
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
        "run": ["$@evaluator.run()"],
    } | more


RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
TYPED = {"_target_": "EnsureTyped", "keys": "image"}


def window(low: float, high: float) -> dict[str, Any]:
    """Make the usual step for intensities."""
    levels = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **levels, "clip": True}


def spaced(*pixdim: float) -> dict[str, Any]:
    """Make the usual step for spacing."""
    return {"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear"}


def sliding(side: int = 96, **more: Any) -> dict[str, Any]:
    """Make the usual inferer."""
    return {"_target_": "SlidingWindowInferer", "roi_size": [side] * 3, "sw_batch_size": 4, "overlap": 0.5} | more


SPLEEN = zoo_inference([RAS, spaced(1.5, 1.5, 2.0), window(-57, 164), TYPED], inferer=sliding())
"""The settings of the zoo's spleen network."""
WHOLE_BODY = zoo_inference(
    [
        {"_target_": "EnsureTyped", "keys": "@image_key"},
        {**RAS, "keys": "@image_key"},
        {**spaced(), "pixdim": "@pixdim"},
        {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True},
        {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0, "maxv": 1.0},
    ],
    inferer=sliding(overlap="@displayable_configs#sw_overlap", padding_mode="replicate", mode="gaussian"),
    displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
    image_key="image",
    pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
)
"""The settings of the zoo's whole-body network."""
NODULES = zoo_inference(
    [
        {"_target_": "LoadImaged", "keys": "image", "reader": "itkreader", "_disabled_": "@whether_resampled_luna16"},
        RAS,
        {**spaced(0.703125, 0.703125, 1.25), "_disabled_": "@whether_resampled_luna16"},
        window(-1024, 300),
        TYPED,
    ],
    inferer={"_target_": "scripts.detection_inferer.RetinaNetInferer", "detector": "@detector"},
    after=[{"_target_": "ClipBoxToImaged", "box_keys": "box", "remove_empty": True}],
    whether_raw_luna16=False,
    whether_resampled_luna16="$(not @whether_raw_luna16)",
)
"""The settings of the zoo's detector of lung nodules."""
CLICKED = zoo_inference([], inferer={"_target_": "SimpleInferer"}) | {
    "preprocessing": {"_target_": "Compose", "transforms": "$@preprocessing_transforms + @deepedit_transforms"}
}
"""The settings of a network that waits for clicks."""
PROGRAM = {
    "imports": ["$import glob"],
    "inferer": {"_target_": "scripts.pipeline.Pipeline", "input_params": {"inputFile": "$@data[0]"}},
    "run": ["$@inferer.run()"],
}
"""The settings of a bundle that is a program of its own."""
