"""Open the engine of a model card; the only place where a card becomes a running engine."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from orthanc_plugin.catalog.card import Engine, ModelCard
from orthanc_plugin.catalog.shelf import verify_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ModelError
from orthanc_plugin.inference.bpr.engine import BprEngine
from orthanc_plugin.inference.classical import ClassicalChestEngine
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.providers import Provider, open_session
from orthanc_plugin.inference.volume import VolumeEngine


class SegmentationEngine(Protocol):
    """A loaded model that segments volumes, one after the other."""

    @property
    def card(self) -> ModelCard:
        """The model that runs."""

    @property
    def provider(self) -> str:
        """The execution provider that really runs it."""

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a volume; the labels have the volume's own grid.

        Raises
        ------
        InputError
            If the volume's slices are not axial.
        """


@runtime_checkable
class Probabilistic(Protocol):
    """A model that can also tell how probable each structure is in each voxel."""

    def segment_with_probabilities(self, volume: Volume) -> Segmentation:
        """Segment a volume and keep the probabilities; a note says if memory does not allow it."""


def open_engine(card: ModelCard, wanted: Provider) -> SegmentationEngine:
    """Check a model's digests and load it.

    Raises
    ------
    ModelError
        If a file of the model is missing, altered or cannot be loaded.
    ConfigError
        If the provider does not work on this machine.
    """
    verify_model(card)
    match card.engine:
        case Engine.CLASSICAL_CHEST:
            session, provider = open_session(card.directory / card.graphs[0].file, wanted, convolutions=False)
            return ClassicalChestEngine(card, session, provider)
        case Engine.BODY_PART_REGRESSION:
            raise ModelError(f"{card.name} does not segment organs; name it under Locate")
        case Engine.NNUNET:
            return NnunetEngine(card, wanted)
        case Engine.VOLUME:
            return VolumeEngine(card, wanted)


def open_locator(card: ModelCard, wanted: Provider) -> BprEngine:
    """Check the digests of a body part regression and load it.

    Raises
    ------
    ModelError
        If the model is not a body part regression, or one of its files is missing, altered or cannot be loaded.
    ConfigError
        If the provider does not work on this machine.
    """
    verify_model(card)
    if card.engine is not Engine.BODY_PART_REGRESSION:
        raise ModelError(f"{card.name} is not a body part regression; name it under Models")
    return BprEngine(card, wanted)
