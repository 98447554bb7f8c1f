"""The engine of converted nnU-Net models."""

from __future__ import annotations

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.ct import Volume
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.masks import Segmentation


class NnunetEngine:
    """Segments a volume as the original framework would."""

    def __init__(self, card: ModelCard, wanted: Provider) -> None:
        self.card = card
        self.provider = wanted.value

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a CT; see `SegmentationEngine`."""
        raise NotImplementedError
