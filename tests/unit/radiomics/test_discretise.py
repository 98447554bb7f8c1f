"""Grey levels counted by hand, and the text for each parameter."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from orthanc_plugin.domain.radiomics_settings import (
    Aggregation,
    FeatureClass,
    Interpolation,
    RadiomicsMode,
    RadiomicsSettings,
)
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.radiomics.discretise import filtered_bins, grey_levels
from orthanc_plugin.radiomics.firstorder import first_order_features
from orthanc_plugin.radiomics.parameters import describe, parameter_texts
from orthanc_plugin.radiomics.whole_numbers import whole_offsets

IBSI = RadiomicsSettings()
PYRADIOMICS = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS)


def levels(values: list[float], settings: RadiomicsSettings, *, filtered: bool = False) -> list[int]:
    voxels = np.array([[values]], np.float32)
    return grey_levels(voxels, np.ones(voxels.shape, bool), settings, filtered=filtered).ravel().tolist()


def test_bins_of_fixed_width_start_at_the_lower_end_of_the_range() -> None:
    settings = replace(IBSI, resegment_hu=(-500, 400))
    assert levels([-500, -476, -475, -450, 400], settings) == [1, 1, 2, 3, 37]


def test_bins_of_fixed_width_without_a_range_start_at_air_and_the_first_takes_what_is_below() -> None:
    assert levels([-1024, -1000, -976, -975, 0], IBSI) == [1, 1, 1, 2, 41]


def test_a_fixed_number_of_bins_spans_the_values_and_the_last_takes_the_largest() -> None:
    assert levels([0, 9, 10, 39, 40], replace(IBSI, bin_count=4)) == [1, 1, 2, 4, 4]


@pytest.mark.parametrize("count", [29, 32, 49, 50, 64, 100, 128, 1000])
def test_a_value_on_the_edge_of_a_bin_of_a_fixed_number_belongs_to_the_upper_one(count: int) -> None:
    """29 / 50 * 50 is 28.999999999999996, so the quotient must not be taken first."""
    values = [float(value) for value in range(count + 1)]
    assert levels(values, replace(IBSI, bin_count=count)) == [*range(1, count + 1), count]


def test_equal_values_have_one_grey_level() -> None:
    assert levels([7, 7, 7], replace(IBSI, bin_count=32)) == [1, 1, 1]


def test_bins_of_a_filtered_image_start_at_a_multiple_of_the_width() -> None:
    assert levels([-30, -25, 0, 24.9], IBSI, filtered=True) == [1, 2, 3, 3]


def test_pyradiomics_bins_start_at_the_multiple_below_the_smallest_value() -> None:
    settings = replace(PYRADIOMICS, resegment_hu=(-500, 400))
    assert levels([-30, -25, 0, 24.9], settings) == [1, 2, 3, 3]


def test_pyradiomics_counts_bins_over_the_values() -> None:
    assert levels([0, 9, 10, 39, 40], replace(PYRADIOMICS, bin_count=4)) == [1, 1, 2, 4, 4]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (IBSI, "width 25 from -50, a multiple of it"),
        (PYRADIOMICS, "width 25 from -50, a multiple of it"),
        (replace(IBSI, bin_width_hu=0.5, resegment_hu=(-500, 400)), "width 0.5 from -30.5, a multiple of it"),
        (replace(IBSI, bin_count=32), "32 bins"),
    ],
)
def test_the_bins_of_a_filtered_image_are_described_as_they_are(settings: RadiomicsSettings, text: str) -> None:
    voxels = np.array([[[-30.25, 7.0, -999.0]]], np.float32)
    mask = np.array([[[True, True, False]]])
    assert filtered_bins(voxels, mask, settings) == text
    if not settings.bin_count:
        origin = float(text.split(" from ")[1].split(",")[0])
        expected = np.floor((voxels[mask] - origin) / settings.bin_width_hu) + 1
        assert grey_levels(voxels, mask, settings, filtered=True)[mask].tolist() == expected.tolist()


def test_outside_the_mask_there_is_no_grey_level() -> None:
    voxels = np.zeros((1, 1, 3), np.float32)
    assert grey_levels(voxels, np.array([[[True, False, True]]]), IBSI).ravel().tolist() == [41, 0, 41]


OTHERS: dict[str, Any] = {
    "mode": RadiomicsMode.PYRADIOMICS,
    "classes": (FeatureClass.SHAPE,),
    "bin_width_hu": 10.0,
    "bin_count": 32,
    "spacing_mm": (2.0, 2.0, 2.0),
    "interpolation": Interpolation.CUBIC,
    "resegment_hu": (-500.0, 400.0),
    "resegment_sigma": 3.0,
    "force_2d": True,
    "log_sigma_mm": (1.0,),
    "wavelet": True,
    "deprecated": True,
    "aggregation": (Aggregation.VOLUME_MERGED,),
    "ivh_bin_width_hu": 2.5,
    "ivh_bin_count": 1000,
    "filters": ("mean size=5",),
}


def test_every_parameter_that_changes_a_value_changes_the_description() -> None:
    assert set(OTHERS) == {field.name for field in fields(RadiomicsSettings)}
    resampled = replace(IBSI, spacing_mm=(1.0, 1.0, 1.0))
    described = {describe(replace(resampled, **{name: value})) for name, value in OTHERS.items()}
    assert len(described | {describe(resampled)}) == len(OTHERS) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"bin_width_hu": 25.0000001},
        {"spacing_mm": (1.0, 0.9765625, 1.0)},
        {"resegment_hu": (-500.00001, 400.0)},
        {"resegment_sigma": 3.0000001},
        {"log_sigma_mm": (2.0000001,)},
    ],
)
def test_numbers_that_differ_in_a_late_digit_are_described_apart(change: dict[str, Any]) -> None:
    settings = RadiomicsSettings(
        spacing_mm=(1.0, 0.976563, 1.0), resegment_hu=(-500.0, 400.0), resegment_sigma=3.0, log_sigma_mm=(2.0,)
    )
    assert describe(replace(settings, **change)) != describe(settings)


def test_a_wavelet_within_slices_is_described_apart_without_any_texture() -> None:
    settings = replace(IBSI, classes=(FeatureClass.FIRSTORDER,), wavelet=True)
    assert describe(replace(settings, force_2d=True)) != describe(settings)


def test_equal_settings_are_described_alike() -> None:
    assert describe(replace(IBSI, resegment_hu=(-0.0, 400))) == describe(replace(IBSI, resegment_hu=(0, 400.0)))


def test_the_description_is_made_of_the_parameters() -> None:
    assert describe(IBSI) == "; ".join(parameter_texts(IBSI))
    assert "discretisation=width 25 HU from -1000 HU" in parameter_texts(IBSI)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spacing_mm": (1.0,)}, "Spacing needs three steps"),
        ({"resegment_hu": (1.0, 2.0, 3.0)}, "Resegment needs .* or none"),
        ({"resegment_hu": (400.0, -500.0)}, "the lowest and the highest HU, in this order"),
        ({"bin_width_hu": 0.0}, "BinWidth .* must be above 0"),
        ({"bin_count": -1}, "BinCount"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, "Spacing must not be below 0"),
        ({"resegment_sigma": -1.0}, "ResegmentSigma"),
        ({"log_sigma_mm": (1.0, 0.0)}, "each LogSigma must be above 0"),
        (
            {"mode": RadiomicsMode.PYRADIOMICS, "resegment_hu": (0.0, 1.0), "resegment_sigma": 3.0},
            "not both",
        ),
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RadiomicsSettings(**wrong)


@pytest.mark.parametrize("step", [1.0, 0.5], ids=["whole numbers", "halves"])
def test_whole_numbers_have_the_levels_and_statistics_that_any_number_has(step: float) -> None:
    values = (np.random.default_rng(0).integers(-900, 700, 5000) * step).astype(np.float32)
    assert (whole_offsets(values) is not None) == (step == 1.0)
    voxels = values.reshape(5, 10, 100)
    mask = np.ones(voxels.shape, bool)
    settings = replace(PYRADIOMICS, bin_width_hu=10.0)
    edges = np.arange(np.floor(values.min() / 10) * 10, values.max() + 20, 10)
    assert grey_levels(voxels, mask, settings).ravel().tolist() == np.digitize(values, edges).tolist()
    found = first_order_features(values, 1.0, np.ones(5000, int))
    assert found["Median"] == np.median(values)
    assert found["Mean"] == pytest.approx(values.mean(dtype=float))
    assert (found["Minimum"], found["Maximum"]) == (values.min(), values.max())


@pytest.mark.parametrize("values", [[0.0, 1e5], [np.inf, 1.0], [np.nan, 1.0], [2.0**25, 2.0**25 + 4], [-0.5, 0.5]])
def test_numbers_that_no_table_holds_are_not_looked_up(values: list[float]) -> None:
    assert whole_offsets(np.array(values, np.float32)) is None
