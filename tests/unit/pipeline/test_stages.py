"""Engines in a worker: a result is kept while its series is."""

from __future__ import annotations

import numpy as np

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.jobs.stages import RememberingEngine


class CountingEngine:
    provider = "cpu"

    def __init__(self) -> None:
        self.card: ModelCard = find_model("chest_structures", None)
        self.runs = 0

    def segment(self, volume: Volume) -> Segmentation:
        self.runs += 1
        return Segmentation(np.zeros(volume.voxels_hu.shape, np.uint8), ())


def volume() -> Volume:
    return Volume(np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0), np.eye(4))


def test_the_same_volume_is_inferred_once_until_it_is_forgotten() -> None:
    counting = CountingEngine()
    engine, one, other = RememberingEngine(counting), volume(), volume()
    assert engine.segment(one) is engine.segment(one)
    assert counting.runs == 1
    engine.segment(other)
    assert counting.runs == 2
    engine.forget()
    engine.segment(other)
    assert counting.runs == 3
