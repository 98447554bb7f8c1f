"""One ONNX graph of an nnU-Net: input (N, C, *patch), output (N, heads, *patch)."""

from __future__ import annotations

from pathlib import Path

from orthanc_plugin.catalog.nnunet import Configuration
from orthanc_plugin.inference import network
from orthanc_plugin.inference.providers import Provider


class Network(network.Network):
    """A warm session of one fold; it raises the errors of `inference.network.Network`."""

    def __init__(
        self, graph: Path, configuration: Configuration, channels: int, wanted: Provider, *, replayed: bool = False
    ) -> None:
        patch = tuple(configuration.patch_size)
        image, logits = network.End("image", (channels, *patch)), network.End("logits", (configuration.heads, *patch))
        super().__init__(graph, image, logits, wanted, arena=False, replayed=replayed)
