"""Write a checkpoint of nnU-Net as one ONNX file (`graph_writer`) and compare it with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from orthanc_plugin.catalog.nnunet import Framework, Precision
from orthanc_plugin.conversion.graph_writer import End, onnx_bytes, session_of, write_whole
from orthanc_plugin.conversion.network import UNet
from orthanc_plugin.conversion.topology import Topology
from orthanc_plugin.conversion.weights import read_weights
from orthanc_plugin.errors import ModelError

TOLERANCE = {Precision.FP32: (1e-3, 1e-4), Precision.FP16: (0.05, 5e-3)}
"""Largest difference of a logit, and largest fraction of voxels with another argmax, from torch in float32."""

_SEED = 20


def export_graph(
    checkpoint: Path,
    framework: Framework,
    topology: Topology,
    patch_size: tuple[int, ...],
    precision: Precision,
    out: Path,
) -> None:
    """Write one fold as ONNX.

    Parameters
    ----------
    checkpoint : Path
        See `read_weights`.
    framework : Framework
        The framework that wrote the checkpoint.
    topology : Topology
        The network that the plans describe.
    patch_size : tuple of int
        Network axes; fixed in the graph.
    precision : Precision
        Number format of weights and activations.
    out : Path
        The file to write: input `image` (N, C, *patch), output `logits` (N, heads, *patch), both float32, any N.
        It is written only when it is complete and checked.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used, the patch does not match the network, or ONNX Runtime's logits differ from
        torch's by more than `TOLERANCE`.
    """
    _refuse_odd_patch(topology, patch_size)
    network = UNet(topology)
    network.load_state_dict(read_weights(checkpoint, framework, topology), assign=True)
    image = End("image", ("batch", topology.input_channels, *patch_size))
    logits = End("logits", ("batch", topology.heads, *patch_size))
    graph = onnx_bytes(network, "unet", image, logits, half=precision is Precision.FP16)
    _compare(network, graph, precision, (1, topology.input_channels, *patch_size), checkpoint)
    write_whole(graph, out)


def _refuse_odd_patch(topology: Topology, patch_size: tuple[int, ...]) -> None:
    factors = tuple(int(factor) for factor in np.prod(topology.strides, axis=0))
    if len(patch_size) != topology.dimensions or any(np.mod(patch_size, factors)):
        raise ModelError(
            f"patch {patch_size} is not a multiple of the network's strides {factors}; the plans are damaged"
        )


def _compare(network: UNet, graph: bytes, precision: Precision, shape: tuple[int, ...], checkpoint: Path) -> None:
    """Compare the logits of one patch of noise by torch and by ONNX Runtime, both on the CPU."""
    image = np.random.default_rng(_SEED).standard_normal(shape, dtype=np.float32)
    (logits,) = session_of(graph).run(["logits"], {"image": image})
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    difference = float(np.abs(logits - expected).max())
    disagreement = float((logits.argmax(1) != expected.argmax(1)).mean())
    most, part = TOLERANCE[precision]
    if not (difference <= most and disagreement <= part):
        raise ModelError(
            f"{checkpoint.name}: {precision.value} graph differs from torch by {difference:.2g} (allowed {most}), "
            f"and in the argmax of {disagreement:.2g} (allowed {part}) of the voxels; convert with --precision fp32"
        )
