"""One volume through this project and through a peer, and how far they are apart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.nnunet import Framework, Part
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet import engine as engine_module
from orthanc_plugin.inference.nnunet.engine import NnunetEngine
from orthanc_plugin.inference.nnunet.orientation import network_turn
from orthanc_plugin.inference.providers import Provider
from tests.parity.nnunet.cts import Ct, dice
from tests.parity.nnunet.peers import Prediction
from tests.parity.nnunet.table import Row
from tests.parity.nnunet.trust import Window, trusted


@dataclass(frozen=True, slots=True)
class Found:
    """What this project makes of a volume: labels in card numbers, what entered the networks, seconds of `segment`."""

    labels: NDArray[np.uint8]
    entered: tuple[NDArray[np.float32], ...]
    seconds: float


def segment(card: ModelCard, volume: Volume) -> Found:
    """Run a converted model; sessions are opened before the clock starts, as in a warm worker."""
    engine = NnunetEngine(card, Provider.CPU)
    with _entering() as entered:
        start = time.perf_counter()
        labels = engine.segment(volume).labels
        return Found(labels, tuple(entered), time.perf_counter() - start)


@contextmanager
def _entering() -> Iterator[list[NDArray[np.float32]]]:
    """What the engine gives its sliding window."""
    entered, original = [], engine_module.predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            engine_module, "predict", lambda data, *a, **k: (entered.append(data), original(data, *a, **k))[1]
        )
        yield entered


def without_mirroring(card: ModelCard) -> ModelCard:
    """The same model with test-time mirroring off, as the peers' switch does."""
    assert card.nnunet is not None
    return replace(card, nnunet=replace(card.nnunet, parts=tuple(_plain(part) for part in card.nnunet.parts)))


def _plain(part: Part) -> Part:
    changed = []
    for configuration in part.configurations:
        previous = configuration.previous
        if previous is not None:
            previous = replace(previous, part=_plain(previous.part))
        changed.append(replace(configuration, mirror_axes=(), previous=previous))
    return replace(part, configurations=tuple(changed))


def first_stage(card: ModelCard) -> ModelCard | None:
    """A cascade's first stage as a model of its own."""
    assert card.nnunet is not None
    previous = card.nnunet.parts[0].configurations[0].previous
    return replace(card, nnunet=replace(card.nnunet, parts=(previous.part,))) if previous else None


def input_difference(ours: Sequence[NDArray[np.float32]], peers: Sequence[NDArray[np.float32]]) -> float:
    """Largest difference of what entered, configuration by configuration."""
    assert [array.shape for array in ours] == [array.shape for array in peers]
    return max(float(np.abs(one - other).max()) for one, other in zip(ours, peers, strict=True))


def trained_row(card: ModelCard, framework: Framework, ct: Ct, ours: Found, theirs: Prediction) -> Row:
    """Compare trained weights of one configuration and fold, voxel by voxel, where both window alike."""
    assert card.nnunet is not None
    (configuration,) = card.nnunet.parts[0].configurations
    turn = network_turn(ct.volume, card.axes)
    window = Window(framework, theirs.entered[0].shape[1:], configuration.patch_size, configuration.tile_step)
    compared = turn.backward(trusted(window, (0, 1, 2), turn.forward(ct.volume.voxels_hu)))
    different = ours.labels != theirs.labels
    return Row(
        peer=str(framework),
        configuration=configuration.name,
        options=f"1 fold, mirroring off, {card.name}",
        weights="trained",
        ct=ct.name,
        voxels=different.size,
        trusted=float(compared.mean()),
        disagreement=float(different[compared].mean()),
        everywhere=float(different.mean()),
        input_difference=input_difference(ours.entered, theirs.entered),
        lowest_dice=dice(ours.labels, theirs.labels, [label.number for label in card.labels]),
        seconds_ours=ours.seconds,
        seconds_peer=theirs.seconds,
    )
