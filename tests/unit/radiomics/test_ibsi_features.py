"""The feature classes that only IBSI has: against their definitions, and on masks that nobody asked for."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Mask, Segment, Segmentation
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics import spatial
from orthanc_plugin.radiomics.distances import border_distance
from orthanc_plugin.radiomics.feature_codes import coded_features
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.firstorder import histogram_features
from orthanc_plugin.radiomics.ivh import intensity_volume_features
from orthanc_plugin.radiomics.local_intensity import RADIUS_MM, local_intensity_features
from orthanc_plugin.radiomics.morphology import morphological_features
from orthanc_plugin.radiomics.spatial import spatial_features

SPACING_MM = (2.5, 0.8, 1.1)
RNG = np.random.default_rng(5)
VOXELS = RNG.normal(-50, 80, (9, 12, 10)).round().astype(np.float32)
BLOB: Mask = RNG.random(VOXELS.shape) < 0.4
ALL = RadiomicsSettings(classes=tuple(FeatureClass), aggregation=tuple(Aggregation), deprecated=True)


def only(*voxels: tuple[int, int, int]) -> Mask:
    mask = np.zeros(VOXELS.shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def measured(
    mask: NDArray[np.bool_], settings: RadiomicsSettings, voxels: NDArray[np.float32] = VOXELS
) -> tuple[SegmentFeatures, ...]:
    organ = Segment(1, "organ", "Organ", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    volume = Volume(voxels, SPACING_MM, np.eye(4))
    return measure_segments(volume, Segmentation(mask.astype(np.uint8), (organ,)), {"organ"}, settings)


def test_spatial_features_are_the_sums_over_all_pairs() -> None:
    points, values = np.argwhere(BLOB) * SPACING_MM, VOXELS[BLOB].astype(float)
    distance = cdist(points, points)
    weight = np.divide(1, distance, where=distance > 0, out=np.zeros_like(distance))
    centred = values - values.mean()
    moran = len(values) / weight.sum() * (centred @ weight @ centred) / (centred @ centred)
    squares = (values[:, None] - values) ** 2
    geary = (len(values) - 1) / (2 * weight.sum()) * (weight * squares).sum() / (centred @ centred)
    expected = {"MoranI": pytest.approx(moran, rel=1e-9), "GearyC": pytest.approx(geary, rel=1e-9)}
    assert spatial_features(VOXELS, BLOB, SPACING_MM) == expected


def test_a_structure_too_large_for_the_transform_has_no_spatial_features_but_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spatial, "MOST_VOXELS", 100)
    (one,) = measured(BLOB, RadiomicsSettings(classes=(FeatureClass.SPATIAL,)))
    assert [gap.names for gap in one.missing] == [("spatial_MoranI", "spatial_GearyC")]


def test_a_peak_is_the_mean_of_a_sphere_that_reaches_out_of_the_structure_but_not_of_the_image() -> None:
    mask = only((0, 0, 0), (4, 6, 5), (8, 11, 9))
    places = np.argwhere(np.ones(VOXELS.shape)) * SPACING_MM
    means = [
        VOXELS.ravel()[np.linalg.norm(places - np.array(voxel) * SPACING_MM, axis=1) <= RADIUS_MM].mean(dtype=float)
        for voxel in np.argwhere(mask)
    ]
    whole = (slice(0, 9), slice(0, 12), slice(0, 10))
    found = local_intensity_features(VOXELS, whole, mask, SPACING_MM)
    assert found["GlobalPeak"] == pytest.approx(max(means))
    assert found["LocalPeak"] == pytest.approx(means[VOXELS[mask].argmax()])
    box = (slice(3, 6), slice(5, 8), slice(4, 7))
    inner = local_intensity_features(VOXELS, box, mask[box], SPACING_MM)
    assert inner == pytest.approx(dict.fromkeys(("LocalPeak", "GlobalPeak"), means[1]))


def test_peaks_of_a_resampled_organ_do_not_end_at_its_box() -> None:
    settings = RadiomicsSettings(classes=(FeatureClass.LOCAL_INTENSITY,), spacing_mm=(2.0, 1.0, 1.0))
    voxels = np.zeros((20, 40, 40), np.float32)
    voxels[:8] = 900
    mask = np.zeros(voxels.shape, bool)
    mask[9:12, 18:22, 18:22] = True
    (one,) = measured(mask, settings, voxels)
    values = {feature.name: feature.value for feature in one.features}
    assert values["localintensity_GlobalPeak"] > 100


def test_the_example_of_the_manuals_intensity_volume_histogram() -> None:
    counts = {1: 50, 3: 1, 4: 16, 6: 7}
    values = np.repeat(list(counts), list(counts.values())).astype(np.float32)
    assert intensity_volume_features(values) == pytest.approx(
        {"V10": 24 / 74, "V90": 7 / 74, "V10MinusV90": 17 / 74, "I10": 5, "I90": 2, "I10MinusI90": 3}
    )


def test_bins_of_an_intensity_volume_histogram_count_by_their_centre_or_their_number() -> None:
    values = np.array([-10.0, 0.0, 5.0, 9.9], np.float32)
    by_width = intensity_volume_features(values, limits=(-10.0, 10.0), width=5.0)
    assert by_width["I90"] == -2.5
    by_number = intensity_volume_features(values, limits=(-1000.0, 1000.0), bins=4)
    assert by_number["I90"] == 2
    assert np.isnan(intensity_volume_features(np.full(3, 7.0, np.float32))["V10"])


def test_the_mode_is_the_level_nearest_to_the_mean_of_the_most_frequent() -> None:
    assert histogram_features(np.array([1, 1, 5, 5, 6]))["Mode"] == 5
    assert histogram_features(np.array([1, 1, 3, 3]))["Mode"] == 1
    assert histogram_features(np.array([4, 4, 4]))["Kurtosis"] == 0


def test_distance_to_the_border_counts_faces_and_the_end_of_the_image_is_a_border() -> None:
    mask = np.ones((5, 5, 5), bool)
    assert border_distance(mask, flat=False)[2, 2].tolist() == [1, 2, 3, 2, 1]
    assert border_distance(mask, flat=True)[0, 2].tolist() == [1, 2, 3, 2, 1]
    assert border_distance(mask, flat=False)[0, 2].tolist() == [1] * 5


def test_a_box_fills_its_bounding_box_and_its_hull_and_has_no_shift() -> None:
    mask = np.zeros((22, 42, 32), bool)
    mask[1:-1, 1:-1, 1:-1] = True
    found = morphological_features(np.full(mask.shape, 3, np.float32), mask, mask, SPACING_MM)
    assert found["CentreOfMassShift"] == pytest.approx(0, abs=1e-9)
    assert found["VolumeDensityBoundingBox"] == pytest.approx(1, abs=0.01)
    assert found["VolumeDensityConvexHull"] == pytest.approx(1, abs=1e-6)
    assert found["AreaDensityConvexHull"] == pytest.approx(1, abs=1e-6)


def test_a_ball_is_its_own_ellipsoid() -> None:
    z, y, x = np.ogrid[-20:21, -20:21, -20:21]
    ball = np.pad(z**2 + y**2 + x**2 <= 18**2, 1)
    found = morphological_features(np.ones(ball.shape, np.float32), ball, ball, (1.0, 1.0, 1.0))
    # Half axes are two standard deviations, which of a ball are 2 / sqrt(5) of its radius.
    assert found["VolumeDensityEllipsoid"] == pytest.approx((5**0.5 / 2) ** 3, rel=0.02)
    assert found["AreaDensityEllipsoid"] == pytest.approx(1.25, rel=0.1)
    assert found["Asphericity"] < 0.1


@pytest.mark.parametrize("mode", RadiomicsMode)
@pytest.mark.parametrize("flat", [False, True], ids=["noise", "flat"])
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(only((4, 5, 5)), id="one voxel"),
        pytest.param(only((0, 0, 0), (0, 0, 1)), id="two in a corner"),
        pytest.param(only((0, 0, 0), (8, 11, 9)), id="two far apart"),
        pytest.param(only(*((z, 5, 5) for z in range(9))), id="a line across the slices"),
        pytest.param(only(*((4, y, x) for y in range(12) for x in range(10))), id="one slice"),
        pytest.param(BLOB, id="scattered"),
        pytest.param(np.ones(VOXELS.shape, bool), id="all of the image"),
    ],
)
def test_every_feature_of_every_aggregation_has_a_finite_value_or_a_reason(
    mask: NDArray[np.bool_], flat: bool, mode: RadiomicsMode
) -> None:
    settings = replace(ALL, mode=mode)
    groups = measured(mask, settings, np.full_like(VOXELS, -3) if flat else VOXELS)
    assert len(groups) == 6
    assert len({(group.image, group.aggregation) for group in groups}) == len(groups)
    for group in groups:
        assert all(np.isfinite(feature.value) for feature in group.features)
        named = [feature.name for feature in group.features] + [name for gap in group.missing for name in gap.names]
        assert len(named) == len(set(named))
        assert all(gap.reason for gap in group.missing)
    first = {feature.name for feature in groups[0].features} | {n for gap in groups[0].missing for n in gap.names}
    assert first == {coded.name for coded in coded_features(mode)}


def test_further_aggregations_have_textures_only_and_say_how_they_were_made() -> None:
    groups = measured(BLOB, replace(ALL, classes=(FeatureClass.SHAPE, FeatureClass.GLCM)))
    assert [group.aggregation for group in groups] == ["", *list(Aggregation)[1:]]
    assert {feature.name.split("_")[0] for group in groups[1:] for feature in group.features} == {"glcm"}
    texts = [group.conditions.textures for group in groups if group.conditions]
    assert texts[0] == "2D, averaged; distance 1; alpha 0"
    assert len(set(texts)) == 6


def test_aggregations_differ_where_slices_and_directions_do() -> None:
    groups = measured(BLOB, replace(ALL, classes=(FeatureClass.GLCM,)))
    contrasts = [next(one.value for one in group.features if one.name == "glcm_Contrast") for group in groups]
    assert all(abs(a - b) > 1e-6 for a, b in combinations(contrasts, 2))


def test_without_textures_further_aggregations_are_no_groups() -> None:
    (one,) = measured(BLOB, replace(ALL, classes=(FeatureClass.HISTOGRAM,)))
    assert len(one.features) == 22  # and the volume
