"""Use a GPU for the work around networks only after it has shown that it computes what the CPU does.

The same noise goes through the same small network twice: by `device` on the GPU, and by `window` and `restore` on the
CPU. Drivers and releases of ONNX Runtime differ between sites, and tests of this project cannot try them all.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Resampling, Scheme
from orthanc_plugin.domain.masks import Labels
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.inference.nnunet.device import Device, write_labels
from orthanc_plugin.inference.nnunet.members import Members
from orthanc_plugin.inference.nnunet.network import Network
from orthanc_plugin.inference.nnunet.resample import resample_image
from orthanc_plugin.inference.nnunet.restore import Member, Taps, restore, taps
from orthanc_plugin.inference.nnunet.window import predict
from orthanc_plugin.inference.providers import Provider, choose_provider

_LOG = logging.getLogger(__name__)
_LEAST_AGREEMENT = 0.999
_PATCH, _HEADS, _KERNEL = (8, 16, 16), 3, (3, 3, 3)
_IMAGE, _GRID, _OUT = (8, 14, 20), (12, 17, 25), (20, 25, 30)
_GRAPH = "check.onnx"
_CONFIGURATION = Configuration(
    name="3d_fullres",
    framework=Framework.V2,
    graphs=(_GRAPH,),
    transpose_forward=(0, 1, 2),
    transpose_backward=(0, 1, 2),
    spacing_mm=(1.0, 1.0, 1.0),
    patch_size=_PATCH,
    normalisation=Normalisation(Scheme.NONE, 0.0, 0.0, 0.0, 1.0),
    data_resampling=Resampling(3),
    output_resampling=Resampling(1),
    mirror_axes=(2,),
    tile_step=0.5,
    heads=_HEADS,
)


def open_device(wanted: Provider) -> Device | None:
    """Return the GPU if the wanted provider is one, and computes what the CPU does; else None."""
    provider = choose_provider(wanted)[0]
    on_gpu = provider in (Provider.CUDA, Provider.TENSORRT)
    return Device(Provider.CUDA.value) if on_gpu and proved(Provider.CUDA) else None


@lru_cache(maxsize=2)
def proved(provider: Provider) -> bool:
    """Tell whether a device, CUDA or CPU, gives the labels of the CPU; log why not."""
    if find_spec("onnx") is None:
        _LOG.warning("onnx is missing, so the GPU runs nothing but networks: pip install orthanc-enrichment[gpu]")
        return False
    try:
        agreement = min(agreements(Device(provider.value), provider))
    except EnrichError as error:
        _LOG.warning("the GPU runs nothing but networks: %s", error)
        return False
    if agreement < _LEAST_AGREEMENT:
        _LOG.warning("the GPU runs nothing but networks: it gives %.2f %% of the CPU's labels", 100 * agreement)
    return agreement >= _LEAST_AGREEMENT


def agreements(device: Device, provider: Provider) -> tuple[float, float]:
    """Return the part of voxels whose labels agree with the CPU's, by the rules of nnU-Net v1 and v2."""
    noise = np.random.default_rng(3).normal(size=_IMAGE).astype(np.float32)
    steps = taps(_GRID[0], _OUT[0], 1), taps(_GRID[1], _OUT[1], 1), taps(_GRID[2], _OUT[2], 1)
    with TemporaryDirectory() as folder:
        graph = Path(folder, _GRAPH)
        graph.write_bytes(_network())
        v1, v2 = (_agreement(device, provider, graph, noise, steps, framework) for framework in Framework)
    return v1, v2


def _agreement(
    device: Device,
    provider: Provider,
    graph: Path,
    noise: np.ndarray,
    steps: tuple[Taps, Taps, Taps],
    framework: Framework,
) -> float:
    configuration = replace(_CONFIGURATION, framework=framework)
    here, there = (Network(graph, configuration, 1, each) for each in (Provider.CPU, provider))
    expected, found = np.zeros(_OUT, np.uint8), np.zeros(_OUT, np.uint8)
    slabs = predict(resample_image(noise, _GRID, order=3)[None], configuration, [here])
    restore([Member(slabs, steps, framework)], expected)
    members = Members(_HEADS, 2, regions=False, logits=framework is Framework.V2)
    data = device.resample(noise, _GRID, order=3)[None]
    write_labels(device, data, configuration, [there], steps, found, members=members)
    return _same(expected, found)


def _same(expected: Labels, found: Labels) -> float:
    return float((expected == found).mean())


def _network() -> bytes:
    """Make a graph `image` to `logits` of one convolution."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(7).normal(size=(_HEADS, 1, *_KERNEL)).astype(np.float32)
    node = helper.make_node("Conv", ["image", "weights"], ["logits"], pads=[1] * 6)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, *_PATCH])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", _HEADS, *_PATCH])
    graph = helper.make_graph([node], "check", [image], [logits], [numpy_helper.from_array(weights, "weights")])
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString())
