"""From a series to the array that enters a network: orientation, crop, order of steps, masks, first stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Part, Previous, Resampling, Scheme
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ConfigError, InputError, ModelError, Refusal
from orthanc_plugin.inference.grid import canonical_turn
from orthanc_plugin.inference.nnunet.orientation import network_turn
from orthanc_plugin.inference.nnunet.preprocess import Prepared, preprocess
from orthanc_plugin.phantoms.dicom import PatientPosition, StorageOrder, encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series

AXIAL = ("z:S", "y:P", "x:L")
V1, V2 = Framework.V1, Framework.V2
CT = Normalisation(Scheme.CT, -800.0, 300.0, -100.0, 200.0)
Z_SCORE = replace(CT, scheme=Scheme.ZSCORE)
SPACING = (2.0, 1.0, 1.0)


def configuration(framework: Framework, **changes: object) -> Configuration:
    plain = Configuration(
        name="3d_fullres",
        framework=framework,
        graphs=("fold_0.onnx",),
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        spacing_mm=SPACING,
        patch_size=(8, 8, 8),
        normalisation=CT,
        data_resampling=Resampling(3),
        output_resampling=Resampling(1),
        mirror_axes=(),
        tile_step=0.5,
        heads=3,
    )
    return replace(plain, **changes)


def image(shape: tuple[int, int, int] = (12, 20, 24), seed: int = 0) -> np.ndarray:
    """HU without a zero."""
    noise = np.random.default_rng(seed).normal(-200, 400, shape).round()
    noise[noise == 0] = 1
    return noise.astype(np.float32)


def volume(voxels: np.ndarray, columns: np.ndarray, spacing_mm: tuple[float, float, float] = SPACING) -> Volume:
    """A volume whose array axes x, y, z point along the columns."""
    affine = np.eye(4)
    affine[:3, :3] = columns * spacing_mm[::-1]
    return Volume(voxels, spacing_mm, affine)


def enter(ct: Volume, wanted: Configuration) -> Prepared:
    turn = network_turn(ct, AXIAL)
    z, y, x = (ct.spacing_mm[axis] for axis in turn.axes)
    return preprocess(turn.forward(ct.voxels_hu), (z, y, x), wanted)


@pytest.mark.parametrize("order", list(StorageOrder))
@pytest.mark.parametrize("position", list(PatientPosition))
def test_however_the_patient_lay_and_was_stored_the_network_sees_the_same(
    position: PatientPosition, order: StorageOrder
) -> None:
    phantom = make_phantom((20, 24, 28))
    wanted = configuration(V1, spacing_mm=(20.0, 16.0, 15.0))
    series = read_series(encode_phantom(phantom, position=position, order=order))
    found = enter(series.volume, wanted).data
    assert np.array_equal(found, enter(phantom.volume, wanted).data)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_sagittal_coronal_and_mirrored_storage_is_turned(axes: tuple[int, int, int], flipped: tuple[int, ...]) -> None:
    voxels, wanted = image(), configuration(V2, spacing_mm=(2.5, 1.2, 1.2))
    stored = np.flip(voxels.transpose(axes), flipped)
    directions = np.eye(3)[:, [2 - axis for axis in axes[::-1]]]
    directions[:, [2 - axis for axis in flipped]] *= -1
    z, y, x = (SPACING[axis] for axis in axes)
    found = enter(volume(stored, directions, (z, y, x)), wanted)
    assert np.array_equal(found.data, enter(volume(voxels, np.eye(3)), wanted).data)


def tilted(degrees: float) -> np.ndarray:
    """Axes turned about x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def test_oblique_storage_takes_the_nearest_patient_axes() -> None:
    voxels = image()
    for degrees, expected in ((12, (0, 1, 2)), (-40, (0, 1, 2)), (60, (1, 0, 2))):
        turn = network_turn(volume(voxels, tilted(degrees)), AXIAL)
        assert turn.axes == expected
        assert np.array_equal(turn.backward(turn.forward(voxels)), voxels)


@pytest.mark.parametrize("degrees", [45, 44.8, 135])
def test_a_volume_halfway_between_two_axes_is_refused(degrees: float) -> None:
    with pytest.raises(InputError, match="too oblique") as refused:
        network_turn(volume(image(), tilted(degrees)), AXIAL)
    assert refused.value.reason is Refusal.NOT_AXIAL


@pytest.mark.parametrize("degrees", [45, 44.9, 45.1, 135, 225, -45])
def test_rows_halfway_between_two_axes_are_turned_as_the_classical_engine_does(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = volume(image(), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    assert network_turn(turned, AXIAL) == canonical_turn(turned)


@pytest.mark.parametrize("degrees", [45, -135])
def test_an_organ_of_a_series_with_rows_at_45_degrees_lies_at_the_same_place_of_the_patient(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = volume(image(), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    organ = np.zeros(turned.voxels_hu.shape, np.uint8)
    organ[3, 2, 4] = 1
    turn = network_turn(turned, AXIAL)
    seen = turn.forward(organ)
    z, y, x = (int(index) for index in np.argwhere(seen)[0])
    back = turn.backward(seen)
    assert np.array_equal(back, organ)
    step = [turn.forward(np.indices(organ.shape)[axis]) for axis in (2, 1, 0)]

    def at(z: int, y: int, x: int) -> np.ndarray:
        return turned.affine @ [*(axis[z, y, x] for axis in step), 1]

    assert np.allclose(at(z, y, x), turned.affine @ [4, 2, 3, 1])
    toward_left, toward_back = at(z, y, x + 1) - at(z, y, x), at(z, y + 1, x) - at(z, y, x)
    assert toward_left[0] > 0.5 * np.linalg.norm(toward_left)
    assert toward_back[1] > 0.5 * np.linalg.norm(toward_back)


def test_a_card_may_want_other_directions() -> None:
    voxels = image()
    turn = network_turn(volume(voxels, np.eye(3)), ("z:S", "y:A", "x:R"))
    assert np.array_equal(turn.forward(voxels), voxels[:, ::-1, ::-1])
    turn = network_turn(volume(voxels, np.eye(3)), ("x:R", "y:P", "z:I"))
    assert np.array_equal(turn.forward(voxels), voxels.transpose(2, 1, 0)[::-1, :, ::-1])


@pytest.mark.parametrize("axes", [("z:S", "y:P", "x:P"), ("z:S", "y:P", "x"), ("z:S", "y:P", "x:Q")])
def test_a_card_without_three_axes_is_a_model_error(axes: tuple[str, str, str]) -> None:
    with pytest.raises(ModelError, match="convert the model again"):
        network_turn(volume(image(), np.eye(3)), axes)


@pytest.mark.parametrize("framework", list(Framework))
def test_ct_is_clipped_and_scaled_by_the_training_set(framework: Framework) -> None:
    voxels = image()
    before = voxels.copy()
    found = preprocess(voxels, SPACING, configuration(framework))
    expected = (np.clip(voxels.astype(float), -800, 300) + 100) / 200
    assert np.allclose(found.data[0], expected, atol=1e-6)
    assert np.array_equal(voxels, before)


def test_v1_resamples_hu_and_v2_resamples_what_was_clipped() -> None:
    voxels = image()
    wanted = {"spacing_mm": (2.0, 1.5, 1.5)}
    shape = (12, 13, 16)

    def zoomed(values: np.ndarray) -> np.ndarray:
        factors = np.divide(shape, values.shape)
        result = ndimage.zoom(values.astype(float), factors, order=3, mode="nearest", grid_mode=True)
        return result.clip(values.min(), values.max())

    first = preprocess(voxels, SPACING, configuration(V1, **wanted)).data[0]
    second = preprocess(voxels, SPACING, configuration(V2, **wanted)).data[0]
    assert np.allclose(first, (zoomed(voxels).clip(-800, 300) + 100) / 200, atol=1e-5)
    assert np.allclose(second, zoomed((voxels.clip(-800, 300) + 100) / 200), atol=1e-5)
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("framework", list(Framework))
def test_zero_padding_is_cropped_and_the_way_back_is_kept(framework: Framework) -> None:
    voxels = np.zeros((16, 30, 40), np.float32)
    box = (slice(2, 14), slice(0, 20), slice(9, 33))
    voxels[box] = image()
    wanted = configuration(
        framework, transpose_forward=(2, 0, 1), transpose_backward=(1, 2, 0), spacing_mm=(2.0, 2.0, 2.0)
    )
    found = preprocess(voxels, SPACING, wanted)
    assert found.box == box
    assert found.shape == voxels.shape
    assert found.cropped_shape == (24, 12, 20)
    assert (found.spacing_mm, found.target_mm) == ((1.0, 2.0, 1.0), (2.0, 2.0, 2.0))
    assert found.data.shape == (1, 12, 12, 10)


def test_a_flat_configuration_keeps_its_slices() -> None:
    wanted = configuration(V2, spacing_mm=(None, 2.0, 2.0), patch_size=(8, 8))
    found = preprocess(image(), SPACING, wanted)
    assert found.data.shape == (1, 12, 10, 12)
    assert found.target_mm == (2.0, 2.0, 2.0)


def test_a_volume_of_zeros_is_refused() -> None:
    with pytest.raises(InputError, match="every voxel is 0 HU") as refused:
        preprocess(np.zeros((4, 5, 6), np.float32), SPACING, configuration(V1))
    assert refused.value.reason is Refusal.NO_PIXELS


@pytest.mark.parametrize("framework", Framework)
def test_an_image_that_would_lose_all_voxels_is_refused(framework: Framework) -> None:
    for shape, spacing_mm in (((3, 20, 24), (0.3, 1.0, 1.0)), ((0, 20, 24), SPACING)):
        with pytest.raises(InputError, match="thinner than half a voxel") as refused:
            preprocess(image(shape), spacing_mm, configuration(framework))
        assert refused.value.reason is Refusal.TOO_FEW_SLICES


def padded() -> tuple[np.ndarray, np.ndarray]:
    """A ball of HU in zeros, a hole of zeros in the ball; and the ball."""
    z, y, x = np.ogrid[-10:11, -10:11, -10:11]
    radius = np.sqrt(z**2 + y**2 + x**2)
    return np.where((radius <= 10) & (radius > 3), image((21, 21, 21)), 0).astype(np.float32), radius <= 10


@pytest.mark.parametrize("framework", list(Framework))
def test_z_score_in_the_mask_counts_holes_but_not_the_outside(framework: Framework) -> None:
    voxels, ball = padded()
    masked = configuration(framework, normalisation=replace(Z_SCORE, use_mask=True))
    found = preprocess(voxels, SPACING, masked).data[0]
    inside = voxels[ball].astype(float)
    assert np.allclose(found[ball], (inside - inside.mean()) / inside.std(), atol=1e-5)
    assert not found[~ball].any()
    plain = preprocess(voxels, SPACING, configuration(framework, normalisation=Z_SCORE)).data[0]
    assert (abs(plain.mean()), plain.std()) == pytest.approx((0, 1), abs=1e-4)


def test_only_v1_masks_a_ct() -> None:
    voxels, ball = padded()
    rule = replace(CT, use_mask=True)
    first, second = (preprocess(voxels, SPACING, configuration(f, normalisation=rule)).data[0] for f in (V1, V2))
    assert not first[~ball].any()
    assert np.allclose(second[~ball], 0.5)
    assert np.allclose(first[ball], second[ball])


def cascade(framework: Framework, **changes: object) -> Configuration:
    first = Part((configuration(framework, name="3d_lowres"),), (0, 1, 2))
    return configuration(framework, name="3d_cascade_fullres", previous=Previous(first), **changes)


@pytest.mark.parametrize("framework", list(Framework))
def test_labels_of_the_first_stage_follow_the_ct_one_mask_each(framework: Framework) -> None:
    voxels, labels = image(), np.zeros((12, 20, 24), np.uint8)
    labels[2:8, 4:12, 4:12], labels[8:, 10:, 10:] = 1, 2
    found = preprocess(voxels, SPACING, cascade(framework, spacing_mm=(2.0, 0.5, 0.5)), labels).data
    assert found.shape == (3, 12, 40, 48)
    for number in (1, 2):
        assert np.array_equal(found[number], (labels == number).repeat(2, 1).repeat(2, 2))


def test_v2_crops_the_labels_of_a_first_stage_and_v1_squeezes_them() -> None:
    voxels, labels = np.zeros((12, 20, 48), np.float32), np.zeros((12, 20, 48), np.uint8)
    voxels[:, :, :24], labels[:, :, 6:12] = image(), 1
    first, second = (preprocess(voxels, SPACING, cascade(f), labels).data[1] for f in (V1, V2))
    assert np.array_equal(second, labels[:, :, :24])
    assert np.array_equal(first, labels[:, :, ::2])


def test_a_second_stage_without_its_first_is_wrong_use() -> None:
    with pytest.raises(ConfigError, match="3d_cascade_fullres"):
        preprocess(image(), SPACING, cascade(V1))
