"""Compares pyradiomics mode with pyradiomics' own RadiomicsFeatureExtractor on the whole image.

Every value agrees within 1e-9 relative (1e-12 absolute if it is zero apart from rounding), diameters exactly.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.masks import Mask, Segment, Segmentation
from orthanc_plugin.domain.radiomics_settings import FeatureClass, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.reference import pyradiomics
from orthanc_plugin.radiomics.resample import Spacing
from tests.support.cases.organs import organ
from tests.support.cases.realct import real_ct

Values = NDArray[np.floating]
ANISOTROPIC = (2.5, 0.7, 0.71)
PYRADIOMICS = RadiomicsSettings(mode=RadiomicsMode.PYRADIOMICS)


def texture(shape: tuple[int, ...], seed: int, decimals: int) -> Values:
    return np.random.default_rng(seed).normal(-600, 250, shape).round(decimals)


def hollow_ball() -> Mask:
    z, y, x = np.ogrid[-9:10, -9:10, -9:10]
    radius = z**2 + y**2 + x**2
    return np.asarray((radius <= 64) & (radius > 25))


def checkerboard() -> Mask:
    """Every ambiguous state of a marching cube."""
    return np.indices((5, 6, 7)).sum(axis=0) % 2 == 0


def line() -> Mask:
    return np.ones((1, 1, 6), bool)


def plate() -> Mask:
    return organ((1, 17, 23), 0.0, 5)


def ours(voxels_hu: Values, mask: Mask, spacing_mm: Spacing, settings: RadiomicsSettings) -> dict[str, float]:
    segment = Segment(1, "organ", "Organ", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    volume = Volume(np.asarray(voxels_hu, np.float32), spacing_mm, np.eye(4))
    images = measure_segments(volume, Segmentation(mask.astype(np.uint8), (segment,)), {"organ"}, settings)
    return {f"{one.image}_{feature.name}": feature.value for one in images for feature in one.features}


def extractor(settings: RadiomicsSettings) -> RadiomicsFeatureExtractor:
    """One with the settings of ours."""
    keywords = {"binWidth": settings.bin_width_hu, "force2D": settings.force_2d, "minimumROIDimensions": 1}
    if settings.bin_count:
        keywords["binCount"] = settings.bin_count
    if settings.spacing_mm:
        keywords["resampledPixelSpacing"] = list(settings.spacing_mm[::-1])
        keywords["interpolator"] = {"linear": "sitkLinear", "cubic": "sitkBSpline"}[settings.interpolation]
    if settings.resegment_hu:
        keywords["resegmentRange"] = list(settings.resegment_hu)
    if settings.resegment_sigma:
        keywords |= {"resegmentRange": [-settings.resegment_sigma, settings.resegment_sigma], "resegmentMode": "sigma"}
    found = RadiomicsFeatureExtractor(additionalInfo=False, **keywords)
    found.disableAllFeatures()
    for feature_class in settings.classes:
        found.enableFeatureClassByName(feature_class)
    if settings.deprecated:
        found.enabledFeatures["shape"] = list(pyradiomics().shape.RadiomicsShape.getFeatureNames())
    if settings.log_sigma_mm:
        found.enableImageTypeByName("LoG", customArgs={"sigma": list(settings.log_sigma_mm)})
    if settings.wavelet:
        found.enableImageTypeByName("Wavelet")
    return found


def theirs(voxels_hu: Values, mask: Mask, spacing_mm: Spacing, settings: RadiomicsSettings) -> dict[str, float]:
    """pyradiomics on the whole image; what it cannot define is left out."""
    image = sitk.GetImageFromArray(np.asarray(voxels_hu, np.float32))
    label = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    label.SetSpacing(spacing_mm[::-1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        values = extractor(settings).execute(image, label)
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def assert_same(voxels_hu: Values, mask: Mask, spacing_mm: Spacing, settings: RadiomicsSettings = PYRADIOMICS) -> None:
    mine, reference = (side(voxels_hu, mask, spacing_mm, settings) for side in (ours, theirs))
    assert mine.keys() == reference.keys()
    assert mine == pytest.approx(reference, rel=1e-9, abs=1e-12)
    diameters = [name for name in reference if "Diameter" in name]
    assert [mine[name] for name in diameters] == [reference[name] for name in diameters]


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), ANISOTROPIC])
@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(organ((14, 19, 23), 0.0, 1), id="lobes cut off by the border"),
        pytest.param(organ((21, 16, 12), 0.8, 2), id="islands"),
        pytest.param(organ((12, 15, 18), -0.9, 3), id="with holes"),
        pytest.param(hollow_ball(), id="hollow ball"),
        pytest.param(checkerboard(), id="checkerboard"),
        pytest.param(plate(), id="one slice"),
        pytest.param(np.pad(line(), ((0, 0), (1, 1), (0, 1))), id="a line"),
        pytest.param(np.pad(line(), ((0, 0), (0, 1), (2, 3)))[..., :4], id="two voxels"),
    ],
)
def test_every_feature_equals_the_extractor(mask: Mask, spacing_mm: Spacing) -> None:
    assert_same(texture(mask.shape, 7, decimals=0), mask, spacing_mm, replace(PYRADIOMICS, deprecated=True))


@pytest.mark.parametrize("decimals", [0, 1, 3])
def test_fractional_hu_fall_into_the_same_bins(decimals: int) -> None:
    mask = organ((9, 11, 13), -0.2, 4)
    assert_same(texture(mask.shape, 8, decimals), mask, (3.0, 0.9, 0.8))


@pytest.mark.parametrize("hu", [-1000.0, 0.1, 37.0])
def test_a_flat_region_equals_the_extractor(hu: float) -> None:
    mask = organ((9, 11, 13), -0.2, 4)
    assert_same(np.full(mask.shape, hu), mask, (3.0, 0.9, 0.8))


WAYS = {
    "width 10": {"bin_width_hu": 10.0},
    "32 bins": {"bin_count": 32},
    "range": {"resegment_hu": (-850.0, -400.0)},
    "sigma": {"resegment_sigma": 1.5},
    "slices": {"force_2d": True},
    "linear": {"spacing_mm": (1.5, 1.1, 0.9)},
    "cubic": {"spacing_mm": (2.0, 2.0, 2.0), "interpolation": Interpolation.CUBIC},
    "in the slices": {"spacing_mm": (0.0, 1.3, 1.3), "force_2d": True},
    "linear and range": {"spacing_mm": (3.0, 1.0, 1.0), "resegment_hu": (-900.0, 0.0)},
    "LoG": {"log_sigma_mm": (1.0, 2.5)},
    "LoG of slices": {"log_sigma_mm": (2.0,), "force_2d": True},
    "wavelet": {"wavelet": True},
    "wavelet of slices": {"wavelet": True, "force_2d": True},
    "both after resampling": {"spacing_mm": (2.0, 1.0, 1.0), "log_sigma_mm": (2.0,), "wavelet": True, "bin_count": 16},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_setting_means_what_it_means_to_the_extractor(way: str) -> None:
    mask = organ((17, 26, 30), 0.3, 6)
    mask[:2], mask[:, :4], mask[:, :, :3] = False, False, False
    settings = replace(PYRADIOMICS, **WAYS[way])
    assert_same(texture(mask.shape, 9, decimals=0), mask, ANISOTROPIC, settings)


@pytest.mark.real_ct
@pytest.mark.parametrize(
    "way", [{}, {"resegment_hu": (-950.0, -600.0)}, {"spacing_mm": (5.0, 5.0, 5.0), "log_sigma_mm": (8.0,)}]
)
def test_the_lungs_of_a_real_chest_equal_the_extractor(way: dict[str, object]) -> None:
    folder = real_ct("cip_ct64")
    image, lungs = (sitk.ReadImage(folder / name) for name in ("ct-64.nrrd", "wholeLung-64.nrrd"))
    z_mm, y_mm, x_mm = image.GetSpacing()[::-1]
    mask = sitk.GetArrayFromImage(lungs) > 0
    assert_same(sitk.GetArrayFromImage(image), mask, (z_mm, y_mm, x_mm), replace(PYRADIOMICS, **way))


def test_shape2d_is_of_the_largest_axial_slice() -> None:
    mask = organ((6, 17, 23), 0.0, 5)
    largest = int(mask.sum(axis=(1, 2)).argmax())
    settings = replace(PYRADIOMICS, classes=(FeatureClass.SHAPE2D,), force_2d=True)
    alone = np.zeros_like(mask)
    alone[largest] = mask[largest]
    box = ndimage.find_objects(alone.astype(np.uint8))[0]
    image, label = (
        sitk.GetImageFromArray(mask[box].astype(np.float32)),
        sitk.GetImageFromArray(mask[box].astype(np.uint8)),
    )
    for one in (image, label):
        one.SetSpacing(ANISOTROPIC[::-1])
    expected = pyradiomics().shape2D.RadiomicsShape2D(image, label, force2D=True).execute()
    found = ours(np.zeros(mask.shape), mask, ANISOTROPIC, settings)
    del found["original_shape_VoxelVolume"]
    assert found == pytest.approx({f"original_shape2D_{n}": float(v) for n, v in expected.items()}, rel=1e-9)
