"""Figures of a sample are counted without sorting where values are whole numbers; they are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.series import plausibility
from orthanc_plugin.series.plausibility import figures_of

Sample = NDArray[np.float32]
RANDOM = np.random.default_rng(17)


def body() -> Sample:
    parts = [RANDOM.normal(middle, 40, 20_000) for middle in (-1000, -850, -100, 45, 300)]
    return np.concatenate(parts).astype(np.float32)


SAMPLES: dict[str, Callable[[], Sample]] = {
    "whole numbers": lambda: np.rint(body()),
    "whole numbers on the edges of the bins": lambda: np.rint(body() / 5) * np.float32(5),
    "fractions": lambda: np.float32(0.3) * np.rint(body()) + np.float32(0.1),
    "fractions near edges": lambda: np.nextafter(np.rint(body() / 5) * np.float32(5), np.float32(np.inf)),
    "one value": lambda: np.full(100, -1000, np.float32),
    "one odd fraction": lambda: np.concatenate([np.rint(body()), np.array([0.5], np.float32)]),
    "far apart": lambda: np.array([-3e6, -1000, 0, 40, 6e7], np.float32),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_counts_are_those_of_sorting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SAMPLES[name]()
    found, counted = figures_of(sample), np.histogram
    assert found.values == len(np.unique(sample))

    def searched(values: Sample, bins: int, span: tuple[float, float]) -> object:
        edges = np.arange(-1600.0, 801.0, 5)
        assert (bins, span) == (len(edges) - 1, (edges[0], edges[-1]))
        by_edges = counted(values, edges)
        np.testing.assert_array_equal(counted(values, bins, span)[0], by_edges[0])
        return by_edges

    monkeypatch.setattr(plausibility.np, "histogram", searched)
    assert figures_of(sample) == found
