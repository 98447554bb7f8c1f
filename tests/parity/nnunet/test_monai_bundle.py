"""MONAI bundles against MONAI: its transforms, network and inferer run the same settings (the tier that has torch)."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from scipy import ndimage

from orthanc_plugin.conversion.monai_bundle import convert_bundle
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from tests.support.cases.bundle_case import RAS, bundle, changed, sliding, spaced, window, zoo_inference, zoo_metadata

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor

NAMES = ["background", "liver", "spleen"]
SPACING_MM = (3.0, 2.0, 2.0)
NET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "norm": "batch", "num_res_units": 2}
NORMAL = [
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
    {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
]


def settings(*steps: dict[str, Any], **inferer: Any) -> dict[str, Any]:
    network = NET | {"channels": [8, 16, 32], "strides": [2, 2]}
    return zoo_inference([RAS, *steps], inferer=sliding(16) | inferer, network_def=network)


def ct() -> Volume:
    """Blobs of 20 mm between air and bone, in LPS, head first."""
    noise = np.random.default_rng(8).normal(size=(28, 44, 40))
    smooth = ndimage.gaussian_filter(noise, 3.0)
    hu = np.round(100 + smooth / smooth.std() * 300).astype(np.float32)
    z, y, x = SPACING_MM
    return Volume(hu, SPACING_MM, np.diag([x, y, z, 1.0]))


def by_monai(inference: dict[str, Any], network: torch.nn.Module, volume: Volume) -> np.ndarray:
    """Labels (z, y, x) of MONAI for a CT that was loaded, with what writes files left out."""
    content = {key: value for key, value in inference.items() if key in ("preprocessing", "inferer", "postprocessing")}
    for part in ("preprocessing", "postprocessing"):
        steps = content[part]["transforms"]
        kept = [one for one in steps if not one["_target_"].startswith(("LoadImage", "EnsureChannel", "SaveImage"))]
        content = changed(content, f"{part}.transforms", kept)
    parser = ConfigParser(content)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = MetaTensor(torch.from_numpy(volume.voxels_hu.T.copy())[None], affine=to_ras @ volume.affine)
    item = parser.get_parsed_content("preprocessing")({"image": image})
    with torch.no_grad():
        item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], network)[0]
    labels = parser.get_parsed_content("postprocessing")(item)["pred"]
    return np.asarray(labels[0].numpy().T, np.uint8)


def network_of(inference: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(2)
    network = ConfigParser({"net": inference["network_def"]}).get_parsed_content("net")
    return network.eval()


def exported(network: torch.nn.Module, roi: list[int]) -> onnx.ModelProto:
    """What `monai.bundle onnx_export` does: torch's exporter on the shape of a patch."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 1, *roi),), stream, dynamo=False, opset_version=17)
    return onnx.load_from_string(stream.getvalue())


CASES = {
    "window": (settings(window(-200, 600)), 0.9999),
    "window, Gaussian weights": (settings(window(-200, 600), mode="gaussian", overlap=0.25), 0.9999),
    "image smaller than a patch": (settings(window(-200, 600), roi_size=[32, 48, 48]), 0.9999),
    "normalised and scaled": (settings(*NORMAL, mode="gaussian", padding_mode="replicate", roi_size=[48] * 3), 0.9999),
    "resampled": (settings(spaced(2.5, 2.5, 2.5), window(-200, 600), mode="gaussian"), 0.98),
}
"""Settings, and the least fraction of voxels with the same label; a random network decides each voxel narrowly."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_monai(tmp_path: Path, name: str) -> None:
    inference, least = CASES[name]
    network, volume = network_of(inference), ct()
    root = bundle(
        tmp_path,
        exported(network, inference["inferer"]["roi_size"]),
        zoo_metadata(NAMES),
        json.loads(json.dumps(inference)),
    )
    card = convert_bundle(root, "anything", tmp_path / "models")
    ours = open_engine(card, Provider.CPU).segment(volume).labels
    theirs = by_monai(inference, network, volume)
    assert len(np.unique(theirs)) >= 2
    agreeing = float((ours == theirs).mean())
    assert agreeing >= least
