"""Compares shape and 2D shape with pyradiomics' own classes (diameters to the bit, the rest to 1e-9) and with IBSI."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from radiomics.shape import RadiomicsShape
from radiomics.shape2D import RadiomicsShape2D
from scipy import ndimage

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.radiomics.resample import Spacing
from orthanc_plugin.radiomics.shape import shape_features
from orthanc_plugin.radiomics.shape2d import largest_slice, shape2d_features
from tests.support.cases.realct import real_ct

DEPRECATED = ("Compactness1", "Compactness2", "SphericalDisproportion")


def organ(seed: int) -> Mask:
    """A random smooth organ with lobes, holes and islands, in its bounding box."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.standard_normal(random.integers(4, 24, 3)), 1.3)
    mask = noise > random.uniform(-0.8, 0.8) * noise.std()
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return np.asarray(mask[box])


def spacing(seed: int) -> Spacing:
    z, y, x = np.random.default_rng(seed).uniform(0.3, 4, 3)
    return float(z), float(y), float(x)


def labelled(mask: Mask, spacing_mm: Spacing) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    return image


def assert_same(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert ours == pytest.approx({name: float(value) for name, value in theirs.items()}, rel=1e-9, abs=1e-7)
    diameters = [name for name in theirs if "Diameter" in name]
    assert [ours[name] for name in diameters] == [float(theirs[name]) for name in diameters]


@pytest.mark.parametrize("seed", range(12))
def test_shape_equals_pyradiomics_with_its_deprecated_features(seed: int) -> None:
    mask, spacing_mm = organ(seed), spacing(seed)
    reference = RadiomicsShape(labelled(mask, spacing_mm), labelled(mask, spacing_mm))
    reference.enableAllFeatures()
    for name in DEPRECATED:
        reference.enableFeatureByName(name)
    ours = shape_features(mask, spacing_mm, deprecated=True)
    assert len(ours) == 17
    assert_same(ours, reference.execute())


@pytest.mark.parametrize("seed", range(12))
def test_shape2d_equals_pyradiomics_on_the_largest_slice(seed: int) -> None:
    mask, spacing_mm = organ(seed), spacing(seed)
    (one,) = ndimage.find_objects(mask[areas(mask).index(max(areas(mask)))].astype(np.uint8))
    label = labelled(mask[areas(mask).index(max(areas(mask)))][one][None], spacing_mm)
    ours = shape2d_features(mask, spacing_mm)
    assert len(ours) == 9
    assert_same(ours, RadiomicsShape2D(label, label, force2D=True).execute())


def areas(mask: Mask) -> list[int]:
    return [int(one.sum()) for one in mask]


def test_of_slices_of_equal_area_the_lowest_counts() -> None:
    mask = np.zeros((4, 5, 5), bool)
    mask[0, 0, 0] = mask[1, 1:3, 1:3] = mask[2, 0, :4] = True
    assert largest_slice(mask).shape == (2, 2)
    assert shape2d_features(mask[::-1], (1, 1, 1))["MajorAxisLength"] == pytest.approx(4 * np.sqrt(1.25))


def test_a_slice_of_one_voxel_has_no_elongation() -> None:
    values = shape2d_features(np.eye(3, dtype=bool)[None].transpose(1, 0, 2), (1, 2, 3))
    assert values["PixelSurface"] == 6
    assert np.isnan(values["Elongation"])


def test_the_sample_covariance_gives_the_axes_published_for_the_ibsi_phantom() -> None:
    folder = real_ct("ibsi_1_digital_phantom/nifti")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(folder / "mask/mask.nii.gz")) == 1
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    values = shape_features(mask[box], (2.0, 2.0, 2.0), sample=True, deprecated=True)
    published = {
        "MajorAxisLength": (11.4, 0.1),
        "MinorAxisLength": (9.31, 0.06),
        "LeastAxisLength": (8.54, 0.05),
        "Elongation": (0.816, 0.001),
        "Flatness": (0.749, 0.001),
        "Compactness1": (0.0411, 0.0003),
        "Compactness2": (0.599, 0.004),
        "SphericalDisproportion": (1.19, 0.01),
    }
    for name, (expected, tolerance) in published.items():
        assert values[name] == pytest.approx(expected, abs=tolerance), name
