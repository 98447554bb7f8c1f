"""No setting makes a measurement unbounded: what would cost too much is left out before it starts, with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import ValidationError

from orthanc_plugin.config.rule import Rule
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics import features
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.textures import co_occurrence_cells
from tests.unit.radiomics.test_features import segment

SHAPE = (12, 40, 40)


def measure(settings: RadiomicsSettings, shape: tuple[int, int, int] = SHAPE) -> tuple[SegmentFeatures, ...]:
    voxels_hu = np.random.default_rng(0).normal(0, 200, shape).astype(np.float32)  # no two voxels alike
    volume = Volume(voxels_hu, (2.0, 1.0, 1.0), np.eye(4))
    return measure_segments(volume, Segmentation(np.ones(shape, np.uint8), (segment(1, "organ"),)), ["organ"], settings)


def reasons(measured: SegmentFeatures) -> dict[str, str]:
    return {name: gap.reason for gap in measured.missing for name in gap.names}


def classes(names: Iterator[str]) -> set[str]:
    return {name.split("_")[0] for name in names}


def test_what_is_left_out_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RadiomicsSettings(
        classes=(FeatureClass.GLCM, FeatureClass.GLSZM, FeatureClass.COOCCURRENCE),
        bin_count=64,
        aggregation=(Aggregation.VOLUME_MERGED, Aggregation.SLICES_AVERAGED, Aggregation.FLAT_MERGED),
    )
    monkeypatch.setattr(features, "_MOST_CELLS", 13 * 64**2 + 4 * 64**2)
    volume, slices, flat = measure(settings)
    assert reasons(volume) == reasons(flat) == {}
    assert classes(iter(reasons(slices))) == {"glcm", "cooccurrence"}
    assert "a smaller BinCount or fewer Aggregations" in next(iter(reasons(slices).values()))
    assert slices.conditions is not None
    assert slices.conditions.classes == "glszm"


def test_cells_are_pairs_of_levels_that_occur() -> None:
    levels = np.array([[[1, 1000], [1, 1]], [[7, 8], [9, 9]]], np.int32)
    everything = np.ones(levels.shape, bool)
    assert co_occurrence_cells(levels, everything, Aggregation.VOLUME_AVERAGED) == 13 * 5**2
    assert co_occurrence_cells(levels, everything, Aggregation.FLAT_MERGED) == 4 * 5**2
    assert co_occurrence_cells(levels, everything, Aggregation.SLICES_MERGED) == 4 * (2**2 + 3**2)


@pytest.mark.parametrize("mode", RadiomicsMode)
@pytest.mark.parametrize("width", [1e-5, 1e-300])
def test_bins_far_below_the_noise_leave_out_what_counts_bins(mode: RadiomicsMode, width: float) -> None:
    """Such numbers of bins overflow 32 bits, and a histogram of them takes terabytes."""
    chosen = (FeatureClass.FIRSTORDER, FeatureClass.HISTOGRAM, FeatureClass.IVH, FeatureClass.GLRLM)
    (measured,) = measure(RadiomicsSettings(mode=mode, classes=chosen, bin_width_hu=width, ivh_bin_width_hu=width))
    why = reasons(measured)
    assert classes(iter(why)) == {"firstorder", "histogram", "ivh", "glrlm"}
    assert {name for name in why if name.startswith("firstorder")} == {"firstorder_Entropy", "firstorder_Uniformity"}
    assert "BinWidth" in why["firstorder_Entropy"]
    assert "IvhBinWidth" in why["ivh_V10"]
    assert "4096 grey levels" in why["glrlm_RunEntropy"]
    assert len(measured.features) == 17


@pytest.mark.parametrize(
    "settings",
    [
        {"Filters": ["mean size=3"] * 65},
        {"LogSigma": [1.0] * 33},
        {"Aggregation": ["3D, merged"] * 7},
    ],
)
def test_lists_are_not_endless(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"too_long|at most"):
        Rule.model_validate({"Name": "a", "RadiomicsSettings": settings})


def test_an_organ_smaller_than_a_new_voxel_has_an_estimate_of_its_pairs() -> None:
    settings = RadiomicsSettings(classes=(FeatureClass.FIRSTORDER, FeatureClass.SPATIAL), spacing_mm=(30, 30, 30))
    (measured,) = measure(settings, (2, 3, 3))
    assert reasons(measured)["spatial_MoranI"]
