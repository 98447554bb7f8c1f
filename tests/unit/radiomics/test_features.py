"""Radiomics of bodies with formulas, of the phantom, and of segments too small to measure."""

from __future__ import annotations

import logging
import sys
import tracemalloc
from collections.abc import Collection, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG, Code
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.measures import SegmentFeatures
from orthanc_plugin.domain.radiomics_settings import Aggregation, FeatureClass, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.phantoms.phantom import LABELS, make_phantom
from orthanc_plugin.radiomics.feature_codes import coded_features
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.parameters import parameter_texts
from orthanc_plugin.radiomics.reference import VERSION, pyradiomics
from orthanc_plugin.radiomics.schedule import Task

SPACING_MM = (1.5, 0.8, 0.8)
SEMI_AXES_MM = (40.0, 30.0, 20.0)
HU_PER_MM = 10.0


def segment(number: int, key: str, covers: tuple[int, ...] = ()) -> Segment:
    return Segment(number, key, key, ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), covers or (number,))


def measure(
    voxels_hu: NDArray[np.floating],
    labels: NDArray[np.generic],
    shape_keys: Collection[str] = ("organ",),
    settings: RadiomicsSettings = RadiomicsSettings(),  # noqa: B008  frozen
) -> SegmentFeatures:
    volume = Volume(np.asarray(voxels_hu, np.float32), SPACING_MM, np.eye(4))
    segmentation = Segmentation(np.asarray(labels, np.uint8), (segment(1, "organ"),))
    return measure_segments(volume, segmentation, shape_keys, settings)[0]


def by_name(features: SegmentFeatures) -> dict[str, float]:
    return {feature.name: feature.value for feature in features.features}


def ellipsoid() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """HU that rise along z, and an ellipsoid around the centre."""
    z, y, x = (np.arange(-60, 61) * step for step in SPACING_MM)
    a, b, c = SEMI_AXES_MM
    inside = (z[:, None, None] / a) ** 2 + (y[:, None] / b) ** 2 + (x / c) ** 2 <= 1
    return np.broadcast_to(z[:, None, None] * HU_PER_MM, inside.shape), inside


@pytest.fixture(scope="module")
def ellipsoid_values() -> dict[str, float]:
    return by_name(measure(*ellipsoid()))


def test_volumes_axes_and_diameters_of_an_ellipsoid_are_those_of_its_formula(
    ellipsoid_values: dict[str, float],
) -> None:
    a, b, c = SEMI_AXES_MM
    volume = 4 / 3 * np.pi * a * b * c
    formula = {
        "shape_MeshVolume": volume,
        "shape_VoxelVolume": volume,
        "shape_MajorAxisLength": 4 * a / np.sqrt(5),
        "shape_MinorAxisLength": 4 * b / np.sqrt(5),
        "shape_LeastAxisLength": 4 * c / np.sqrt(5),
        "shape_Elongation": b / a,
        "shape_Flatness": c / a,
        "shape_Maximum3DDiameter": 2 * a,
        "shape_Maximum2DDiameterSlice": 2 * b,
        "shape_Maximum2DDiameterColumn": 2 * a,
        "shape_Maximum2DDiameterRow": 2 * a,
    }
    assert {name: ellipsoid_values[name] for name in formula} == pytest.approx(formula, rel=0.02)


def test_first_order_of_a_gradient_in_an_ellipsoid_is_that_of_its_formula(ellipsoid_values: dict[str, float]) -> None:
    a = SEMI_AXES_MM[0] * HU_PER_MM
    formula = {
        "firstorder_Mean": 0.0,
        "firstorder_Median": 0.0,
        "firstorder_Skewness": 0.0,
        "firstorder_Variance": a**2 / 5,
        "firstorder_Kurtosis": 15 / 7 - 3,
        "firstorder_RootMeanSquared": a / np.sqrt(5),
        "firstorder_MeanAbsoluteDeviation": a * 3 / 8,
    }
    assert {name: ellipsoid_values[name] for name in formula} == pytest.approx(formula, rel=0.02, abs=1e-6)


def test_a_mesh_of_voxels_has_a_larger_surface_than_the_smooth_body(ellipsoid_values: dict[str, float]) -> None:
    a, b, c = (axis**1.6075 for axis in SEMI_AXES_MM)
    smooth = 4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6075)
    assert 1.02 < ellipsoid_values["shape_SurfaceArea"] / smooth < 1.12


def test_the_phantom_measures_its_own_volumes_within_two_percent() -> None:
    phantom = make_phantom()
    segments = tuple(segment(n, key, tuple(LABELS.values()) if key == "body" else ()) for key, n in LABELS.items())
    shape_keys = {"lung_left", "lung_right", "airway"}
    measured = measure_segments(phantom.volume, Segmentation(phantom.labels, segments), shape_keys)
    for one, features in zip(segments, measured, strict=True):
        volumes = [f.value / 1000 for f in features.features if f.name in ("shape_MeshVolume", "shape_VoxelVolume")]
        assert len(volumes) == (2 if one.key in shape_keys else 1)
        assert volumes == pytest.approx([phantom.volumes_ml[one.key]] * len(volumes), rel=0.02), one.key


def test_without_shape_a_segment_gets_its_volume_and_first_order() -> None:
    names = [feature.name for feature in measure(*ellipsoid(), shape_keys=()).features]
    assert names[0] == "shape_VoxelVolume"
    assert len(names) == 19
    assert all(name.startswith("firstorder_") for name in names[1:])


@pytest.mark.parametrize(("voxels", "mode"), [(0, "ibsi"), (0, "pyradiomics"), (1, "pyradiomics")])
def test_a_segment_of_no_voxel_and_one_of_pyradiomics_gets_a_note_and_no_features(voxels: int, mode: str) -> None:
    labels = np.zeros((3, 3, 3))
    labels[1, 1, :voxels] = 1
    features = measure(np.zeros(labels.shape), labels, settings=RadiomicsSettings(mode=RadiomicsMode(mode)))
    assert features.features == ()
    assert features.notes == ("no radiomics: the segment has fewer than two voxels",)


def test_one_voxel_has_a_volume_and_an_intensity_and_reasons_for_the_rest() -> None:
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[0, 2, 1] = 1
    settings = RadiomicsSettings(
        classes=tuple(FeatureClass), aggregation=tuple(Aggregation), log_sigma_mm=(2.0,), deprecated=True
    )
    volume = Volume(np.full(labels.shape, 40, np.float32), SPACING_MM, np.eye(4))
    first, *others = measure_segments(volume, Segmentation(labels, (segment(1, "organ"),)), {"organ"}, settings)
    values = {feature.name: feature.value for feature in first.features}
    assert values["shape_VoxelVolume"] == pytest.approx(np.prod(SPACING_MM))
    assert (values["firstorder_Mean"], values["firstorder_Variance"], values["firstorder_Maximum"]) == (40, 0, 40)
    assert not any(name.startswith(("gl", "ngtdm", "ivh")) for name in values)
    reasons = {name: one.reason for group in (first, *others) for one in group.missing for name in one.names}
    assert reasons["glcm_Contrast"] == reasons["ivh_V10"] == "not measured: only one voxel counts"
    assert reasons["shape_Elongation"] == "undefined in this segment"
    filtered = next(group for group in others if group.image != "original" and not group.aggregation)
    assert len(filtered.features) == 18
    assert all(group.features or group.missing for group in others)


def test_one_voxel_that_resegmentation_leaves_keeps_the_shape_of_all() -> None:
    voxels, labels = np.zeros((4, 4, 4)), np.ones((4, 4, 4))
    voxels[1, 1, 1] = 700
    settings = RadiomicsSettings(resegment_hu=(500, 900))
    values = {feature.name: feature.value for feature in measure(voxels, labels, settings=settings).features}
    assert values["firstorder_Mean"] == 700
    assert values["shape_VoxelVolume"] == pytest.approx(64 * np.prod(SPACING_MM))
    assert values["shape_MajorAxisLength"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(RadiomicsSettings(resegment_hu=(500, 900)), id="no HU in the range"),
        pytest.param(RadiomicsSettings(spacing_mm=(40, 40, 40)), id="between the new voxels"),
        pytest.param(
            RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, resegment_hu=(500, 900)), id="pyradiomics, no HU"
        ),
        pytest.param(
            RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS, spacing_mm=(40, 40, 40)), id="pyradiomics, between"
        ),
    ],
)
def test_a_segment_of_which_nothing_is_left_gets_a_note_and_no_features(settings: RadiomicsSettings) -> None:
    labels = np.zeros((24, 40, 40), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    segmentation = Segmentation(labels, (segment(1, "organ"),))
    volume = Volume(np.zeros(labels.shape, np.float32), SPACING_MM, np.eye(4))
    (features,) = measure_segments(volume, segmentation, {"organ"}, settings)
    assert features.features == ()
    assert features.notes == ("no radiomics: resampling and re-segmentation leave fewer than two voxels",)


def many_organs() -> tuple[Volume, Segmentation]:
    """Random blobs, a box with one inside it, one voxel, and a label that is not there."""
    rng = np.random.default_rng(5)
    labels = np.zeros((20, 30, 32), np.uint8)
    labels[2:9, 3:14, 3:15] = rng.random((7, 11, 12)) > 0.3
    labels[11:18, 4:16, 18:30] = 2
    labels[13:16, 7:12, 21:26] = 3
    labels[0, 0, 0] = 4
    segments = (segment(1, "a"), segment(2, "b", (2, 3)), segment(3, "c"), segment(4, "d"), segment(5, "e"))
    voxels_hu = rng.normal(0, 100, labels.shape).round().astype(np.float32)
    return Volume(voxels_hu, SPACING_MM, np.eye(4)), Segmentation(labels, segments)


@pytest.mark.parametrize("mode", RadiomicsMode)
@pytest.mark.parametrize("memory_mib", [0, 2048])
def test_several_organs_at_a_time_give_the_same_numbers(mode: RadiomicsMode, memory_mib: int) -> None:
    settings = RadiomicsSettings(mode=mode, spacing_mm=(1.0, 1.0, 1.0), log_sigma_mm=(1.5,))
    volume, segmentation = many_organs()
    serial = measure_segments(volume, segmentation, {"a", "b"}, settings)
    assert measure_segments(volume, segmentation, {"a", "b"}, settings, workers=3, memory_mib=memory_mib) == serial
    images = [(one.segment_number, one.image, bool(one.features)) for one in serial]
    assert images == [
        (1, "original", True),
        (1, "log-sigma-1-5-mm-3D", True),
        (2, "original", True),
        (2, "log-sigma-1-5-mm-3D", True),
        (3, "original", True),
        (4, "original", mode is RadiomicsMode.IBSI),  # one voxel
        (5, "original", False),
    ]


def scheduled(
    monkeypatch: pytest.MonkeyPatch, volume: Volume, segmentation: Segmentation, key: str, settings: RadiomicsSettings
) -> list[Task[tuple[SegmentFeatures, ...]]]:
    """The tasks of a measurement, without running them."""
    tasks: list[Task[tuple[SegmentFeatures, ...]]] = []

    def only_schedule(given: list[Task[tuple[SegmentFeatures, ...]]], *_: object) -> list[tuple[SegmentFeatures, ...]]:
        tasks.extend(given)
        return []

    monkeypatch.setattr("orthanc_plugin.radiomics.features.run_within", only_schedule)
    measure_segments(volume, segmentation, {key}, settings)
    return tasks


def peak_mib(task: Task[tuple[SegmentFeatures, ...]]) -> float:
    tracemalloc.start()
    task.run()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,)), id="first order"),
        pytest.param(RadiomicsSettings(), id="all classes"),
        pytest.param(RadiomicsSettings(spacing_mm=(1.2, 0.7, 0.7)), id="resampled"),
        pytest.param(RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,), wavelet=True), id="wavelet"),
        pytest.param(RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,), log_sigma_mm=(3.0,)), id="LoG"),
        pytest.param(
            RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,), log_sigma_mm=(2.0,), spacing_mm=(1.2, 0.9, 0.9)),
            id="LoG resampled",
        ),
    ],
)
def test_an_organ_takes_no_more_memory_than_it_is_scheduled_with(
    settings: RadiomicsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels_hu = np.random.default_rng(1).normal(0, 60, ellipsoid()[1].shape).round().astype(np.float32)
    volume = Volume(voxels_hu, SPACING_MM, np.eye(4))
    segmentation = Segmentation(ellipsoid()[1].astype(np.uint8), (segment(1, "organ"),))
    (task,) = scheduled(monkeypatch, volume, segmentation, "organ", settings)
    assert task.memory_mib / 4 < peak_mib(task) < task.memory_mib


@pytest.mark.parametrize("spacing_mm", [(), (1.2, 0.7, 0.7)])
def test_the_wavelet_of_a_thin_organ_at_the_border_is_scheduled_with_the_whole_axis(
    spacing_mm: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels_hu = np.random.default_rng(1).normal(0, 60, (300, 80, 80)).round().astype(np.float32)
    labels = np.zeros(voxels_hu.shape, np.uint8)
    labels[:3, 20:60, 20:60] = 1
    settings = RadiomicsSettings(classes=(FeatureClass.FIRSTORDER,), wavelet=True, spacing_mm=spacing_mm)
    volume, segmentation = Volume(voxels_hu, SPACING_MM, np.eye(4)), Segmentation(labels, (segment(1, "organ"),))
    (task,) = scheduled(monkeypatch, volume, segmentation, "organ", settings)
    assert peak_mib(task) < task.memory_mib


def test_many_grey_levels_are_scheduled_with_the_memory_of_their_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, segmentation = many_organs()
    directions, size_of_float = 13, 8
    for settings in (RadiomicsSettings(bin_width_hu=1.0), RadiomicsSettings(bin_count=4096)):
        most = max(task.memory_mib for task in scheduled(monkeypatch, volume, segmentation, "a", settings))
        assert most > 4096**2 * directions * size_of_float / 2**20


def test_an_organ_gets_the_chosen_classes_in_the_order_of_the_code_table() -> None:
    volume, segmentation = many_organs()
    settings = RadiomicsSettings(classes=(FeatureClass.GLDM, FeatureClass.SHAPE2D, FeatureClass.FIRSTORDER))
    a, _, c, *_ = measure_segments(volume, segmentation, {"a"}, settings)
    names = [coded.name for coded in coded_features(RadiomicsMode.IBSI)]
    chosen = ("shape_VoxelVolume", "shape2D_", "firstorder_", "gldm_")
    assert [one.name for one in a.features] == [name for name in names if name.startswith(chosen)]
    assert {one.name.split("_")[0] for one in c.features} == {"shape", "firstorder"}


def test_a_filtered_image_has_first_order_and_textures_of_its_own_and_no_shape() -> None:
    volume, segmentation = many_organs()
    settings = RadiomicsSettings(wavelet=True, classes=(FeatureClass.SHAPE, FeatureClass.FIRSTORDER))
    images = [one for one in measure_segments(volume, segmentation, {"a"}, settings) if one.segment_number == 1]
    assert [one.image for one in images[1:]] == [f"wavelet-{a}{b}{c}" for a in "LH" for b in "LH" for c in "LH"]
    assert {feature.name.split("_")[0] for one in images[1:] for feature in one.features} == {"firstorder"}
    assert len({by_name(one)["firstorder_Mean"] for one in images}) == len(images)


def test_modes_differ_by_their_definitions() -> None:
    volume, segmentation = many_organs()
    ibsi, pyradiomics_mode = (
        measure_segments(volume, segmentation, {"b"}, RadiomicsSettings(mode=mode))[1] for mode in RadiomicsMode
    )
    ours, theirs = by_name(ibsi), by_name(pyradiomics_mode)
    assert ours["firstorder_Kurtosis"] == pytest.approx(theirs["firstorder_Kurtosis"] - 3)
    count = 7 * 12 * 12
    assert ours["shape_MajorAxisLength"] == pytest.approx(
        theirs["shape_MajorAxisLength"] * np.sqrt(count / (count - 1))
    )
    assert ours["shape_MeshVolume"] == theirs["shape_MeshVolume"]


def test_statistics_of_hu_carry_their_derivation() -> None:
    features = measure(*ellipsoid(), shape_keys=()).features
    (mean,) = (feature for feature in features if feature.name == "firstorder_Mean")
    assert mean.derivation == Code("373098007", "SCT", "Mean")


def test_a_feature_without_a_value_is_left_out_and_noted() -> None:
    features = measure(np.arange(8.0).reshape(2, 2, 2), np.eye(8)[:2].sum(axis=0).reshape(2, 2, 2))
    assert features.notes == ("undefined in this segment: firstorder_RobustMeanAbsoluteDeviation",)
    assert len(features.features) == 106


@pytest.mark.parametrize("mode", RadiomicsMode)
def test_more_grey_levels_than_a_matrix_holds_leave_out_the_textures_and_a_note(mode: RadiomicsMode) -> None:
    rng = np.random.default_rng(0)
    voxels_hu = rng.normal(0, 50, (4, 5, 6)).round()
    voxels_hu[0, 0, 0] = 1e6  # a matrix of co-occurrences of 40 000 levels: 166 GB
    volume = Volume(voxels_hu.astype(np.float32), SPACING_MM, np.eye(4))
    segmentation = Segmentation(np.ones(voxels_hu.shape, np.uint8), (segment(1, "organ"),))
    (measured,) = measure_segments(volume, segmentation, ["organ"], RadiomicsSettings(mode=mode))
    assert {feature.name.split("_")[0] for feature in measured.features} == {"shape", "firstorder"}
    assert measured.notes == ("no textures: more than 4096 grey levels; a larger BinWidth or a BinCount gives fewer",)


def test_equal_values_have_no_excess_kurtosis() -> None:
    assert by_name(measure(np.full((4, 4, 4), 0.1), np.ones((4, 4, 4))))["firstorder_Kurtosis"] == 0


def test_measuring_twice_gives_the_same_numbers() -> None:
    hu = np.random.default_rng(0).normal(0, 100, (9, 9, 9))
    assert measure(hu, hu > 0) == measure(hu, hu > 0)


def test_measuring_says_nothing_on_stderr_and_logs_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        measure(np.zeros((4, 4, 4)), np.ones((4, 4, 4)))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_parameters_name_the_pyradiomics_that_is_installed() -> None:
    assert pyradiomics().__version__.lstrip("v") == VERSION
    assert f"pyradiomics={VERSION}" in parameter_texts(RadiomicsSettings())


@pytest.fixture
def _without_pyradiomics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pyradiomics.cache_clear()
    monkeypatch.setitem(sys.modules, "radiomics", None)
    yield
    pyradiomics.cache_clear()


@pytest.mark.usefixtures("_without_pyradiomics")
def test_a_missing_pyradiomics_is_a_configuration_error_that_tells_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=r"--no-build-isolation pyradiomics==3\.0\.1"):
        measure(np.zeros((4, 4, 4)), np.ones((4, 4, 4)))
