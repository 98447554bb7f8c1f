"""Filters of IBSI 2: against their definitions, at the ends of an image, turned, and cropped to an organ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, LUNG
from orthanc_plugin.domain.image_filters import ImageFilter, parse_filter, write_filter
from orthanc_plugin.domain.masks import Segment, Segmentation
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.radiomics.features import measure_segments
from orthanc_plugin.radiomics.filters import filtered_images, image_names
from orthanc_plugin.radiomics.ibsi2.responses import response, response_within
from orthanc_plugin.radiomics.parameters import filter_text
from orthanc_plugin.radiomics.prepare import prepare

SPACING_MM = (2.0, 1.5, 1.5)
VOXELS = np.random.default_rng(3).normal(0, 100, (14, 18, 16)).astype(np.float32)
TEXTS = (
    "mean size=5",
    "mean size=3 reach=slice boundary=zero",
    "laws kernels=E5L5S5",
    "laws kernels=E3W5R5 pooling=max energy=2 boundary=nearest",
    "laws kernels=L5S5 pooling=min boundary=periodic",
    "gabor sigma=1.5 wavelength=3 theta=30",
    "gabor sigma=1.5 wavelength=3 gamma=2.0 step=45 reach=volume boundary=periodic",
    "wavelet family=db2 kernels=LHL pooling=average boundary=zero",
    "wavelet family=haar kernels=HH level=2 pooling=max",
    "simoncelli",
    "simoncelli level=2 reach=slice",
    "simoncelli level=2 riesz=0,1,2",
    "log sigma=2",
    "log sigma=2 reach=slice boundary=zero",
    "log sigma=1.5 boundary=nearest riesz=1,0,1",
    "log sigma=1.5 riesz=0,2,0 steer=2",
    "simoncelli riesz=1,1,0 steer=1.5",
    "simoncelli reach=slice riesz=2,0 steer=1.5",
)
UNITS = (1.0, 1.0, 1.0)


def impulse(size: int = 21) -> NDArray[np.float64]:
    image = np.zeros((size, size, size))
    image[(size // 2,) * 3] = 1
    return image


def along_x(values: list[float], text: str) -> list[float]:
    """Filter a row that is the same in every row and slice."""
    image = np.broadcast_to(np.array(values), (9, 9, len(values)))
    found: list[float] = response(image, UNITS, parse_filter(text))[4, 4].round(9).tolist()
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_and_written_alike(text: str) -> None:
    written = write_filter(parse_filter(text))
    assert parse_filter(written) == parse_filter(text)
    assert write_filter(parse_filter(f"  {text}  ")) == written


def test_a_default_that_is_spelled_out_makes_no_other_filter() -> None:
    assert write_filter(parse_filter("mean boundary=mirror size=5 reach=volume")) == "mean size=5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names none of the filters"),
        ("median size=3", "names none of the filters"),
        ("mean", "not complete"),
        ("mean size=4", "must be odd"),
        ("mean size=three", "cannot be read"),
        ("mean size=3 energy=2", "does not know energy"),
        ("mean size=3 boundary=wrap", "cannot be read"),
        ("laws kernels=L5", "two or three"),
        ("laws kernels=L5X5E5", "two or three"),
        ("gabor sigma=0 wavelength=2", "above 0 mm"),
        ("gabor sigma=nan wavelength=2", "above 0 mm"),
        ("gabor sigma=2 wavelength=2 step=50", "divide 360"),
        ("gabor sigma=2 wavelength=2 step=0.001", "divide 360"),
        ("gabor sigma=2 wavelength=2 step=nan", "divide 360"),
        ("gabor sigma=2 wavelength=2 theta=inf", "theta"),
        ("wavelet family=db99 kernels=LLH", "unknown wavelet"),
        ("wavelet family=mexh kernels=LLH", "unknown wavelet"),
        ("wavelet family=db2 kernels=LLHH", "two or three"),
        ("simoncelli level=9", "from 1 to 5"),
        ("log", "not complete"),
        ("log sigma=0", "above 0 to 50 mm"),
        ("log sigma=nan", "above 0 to 50 mm"),
        ("log sigma=20 riesz=1,0,0", "above 0 to 10 mm"),
        ("log sigma=2 reach=slice riesz=1,0,0", "Riesz orders are 2 digits"),
        ("log sigma=2 steer=1", "orders of a sum from 1 to 4"),
        ("simoncelli riesz=2,2,1 steer=1", "orders of a sum from 1 to 4"),
        ("simoncelli riesz=1,0,0 steer=-1", "above 0 to 20 mm"),
        ("simoncelli riesz=1,0,0 steer=nan", "above 0 to 20 mm"),
    ],
)
def test_what_is_no_filter_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RadiomicsSettings(filters=(text,))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "box",
    [
        (slice(0, 4), slice(0, 5), slice(0, 3)),
        (slice(6, 9), slice(7, 11), slice(6, 10)),
        (slice(11, 14), slice(15, 18), slice(9, 16)),
    ],
    ids=["first corner", "middle", "last corner"],
)
def test_a_box_has_the_response_of_the_whole_image(text: str, box: tuple[slice, slice, slice]) -> None:
    chosen = parse_filter(text)
    whole = response(VOXELS, SPACING_MM, chosen)[box]
    assert response_within(VOXELS, SPACING_MM, box, chosen) == pytest.approx(whole, abs=1e-3)


def test_the_response_to_an_impulse_is_the_kernel() -> None:
    middle = 10
    mean = response(impulse(), UNITS, parse_filter("mean size=5"))
    assert np.count_nonzero(mean > 1e-12) == 125
    assert mean[middle, middle, middle] == pytest.approx(1 / 125)
    flat = response(impulse(), UNITS, parse_filter("mean size=5 reach=slice"))
    assert np.count_nonzero(flat[middle] > 1e-12) == np.count_nonzero(flat > 1e-12) == 25
    laws = response(impulse(), UNITS, parse_filter("laws kernels=L5E5S5"))[8:13, 8:13, 8:13]
    low, edge, spot = np.array([1, 4, 6, 4, 1]), np.array([-1, -2, 0, 2, 1]), np.array([-1, 0, 2, 0, -1])
    kernel = np.einsum("z,y,x->zyx", spot, edge, low) / np.sqrt(70 * 10 * 6)
    assert laws == pytest.approx(kernel)


def test_the_modulus_of_a_gabor_impulse_is_its_envelope() -> None:
    found = response(impulse(), UNITS, parse_filter("gabor sigma=2 wavelength=4 gamma=0.5 theta=90 boundary=zero"))[10]
    y, x = np.mgrid[-10:11, -10:11]
    envelope = np.exp(-(y**2 + (0.5 * x) ** 2) / 8)  # theta 90: the wave runs along y
    assert found == pytest.approx(envelope, abs=1e-4)


def test_a_gabor_filter_answers_to_waves_of_its_length_and_direction() -> None:
    x = np.broadcast_to(np.cos(2 * np.pi * np.arange(48) / 4), (3, 48, 48))
    along, across, longer = (
        response(x, UNITS, parse_filter(f"gabor sigma=4 wavelength={wave} theta={theta}"))[1, 24, 24]
        for wave, theta in ((4, 0), (4, 90), (8, 0))
    )
    assert along > 100 * across
    assert along > 100 * longer


def test_simoncellis_wavelet_keeps_half_of_the_highest_frequency_and_nothing_constant() -> None:
    size = 65  # an odd number of voxels has symmetrical frequencies
    x = np.cos(2 * np.pi * 16 * np.arange(size) / size)
    wave = np.broadcast_to(x, (5, size, size)) + 7.0
    found = response(wave, UNITS, parse_filter("simoncelli reach=slice"))
    assert found[2, 30] == pytest.approx(x, abs=1e-9)
    finer = response(wave, UNITS, parse_filter("simoncelli level=3 reach=slice"))
    assert np.abs(finer).max() < 1e-9


@pytest.mark.parametrize(
    ("boundary", "first", "last"),
    [("zero", (0 + 3 + 5) / 3, (1 + 9 + 0) / 3), ("nearest", (3 + 3 + 5) / 3, (1 + 9 + 9) / 3),
     ("periodic", (9 + 3 + 5) / 3, (1 + 9 + 3) / 3), ("mirror", (3 + 3 + 5) / 3, (1 + 9 + 9) / 3)],
)  # fmt: skip
def test_what_lies_beyond_the_image_is_what_the_boundary_says(boundary: str, first: float, last: float) -> None:
    found = along_x([3, 5, 1, 9], f"mean size=3 boundary={boundary}")
    assert [found[0], found[-1]] == pytest.approx([first, last])


@pytest.mark.parametrize(("orders", "axis"), [("1,0,0", 2), ("0,1,0", 1), ("0,0,1", 0)])
def test_a_riesz_transform_of_first_order_turns_a_wave_by_a_quarter_along_its_axis_only(orders: str, axis: int) -> None:
    """On an odd number of voxels the frequencies are symmetrical; a wave then becomes minus its derivative's sign."""
    size = 33
    place = np.linspace(0, 2 * np.pi * 8, size, endpoint=False).reshape([-1 if n == axis else 1 for n in range(3)])
    wave, quarter = (np.broadcast_to(one, (size,) * 3) for one in (np.cos(place), np.sin(place)))
    plain = response(wave, (1, 1, 1), parse_filter("simoncelli"))
    turned = response(wave, (1, 1, 1), parse_filter(f"simoncelli riesz={orders}"))
    np.testing.assert_allclose(turned, quarter * plain.max(), atol=1e-9 * plain.max() + 1e-9)
    others = {"1,0,0", "0,1,0", "0,0,1"} - {orders}
    for other in others:
        assert abs(response(wave, (1, 1, 1), parse_filter(f"simoncelli riesz={other}"))).max() < 1e-9


def test_riesz_transforms_of_one_order_hold_the_energy_of_the_wavelet() -> None:
    voxels = np.random.default_rng(2).normal(size=(15, 17, 19))
    plain = response(voxels, (1, 1, 1), parse_filter("simoncelli level=2"))
    second = ("2,0,0", "0,2,0", "0,0,2", "1,1,0", "1,0,1", "0,1,1")
    parts = [response(voxels, (1, 1, 1), parse_filter(f"simoncelli level=2 riesz={one}")) for one in second]
    assert sum((part**2).sum() for part in parts) == pytest.approx((plain**2).sum(), rel=1e-12)
    inside = response(voxels, (1, 1, 1), parse_filter("simoncelli reach=slice riesz=1,0"))
    again = response(voxels[3:4], (1, 1, 1), parse_filter("simoncelli reach=slice riesz=1,0"))
    np.testing.assert_allclose(inside[3:4], again, atol=1e-12)


@pytest.mark.parametrize("filter_", ["simoncelli", "log sigma=2"])
@pytest.mark.parametrize("orders", ["1,0,0", "0,2,0", "1,1,1", "0,1,3"])
def test_a_steered_response_turns_with_the_image(filter_: str, orders: str) -> None:
    chosen = parse_filter(f"{filter_} riesz={orders} steer=1.5")
    cube = np.random.default_rng(4).normal(0, 1, (15, 15, 15))
    found = response(cube, UNITS, chosen)
    assert found.std() > 1e-3
    for axes in ((0, 1), (1, 2), (0, 2)):
        turned = response(np.rot90(cube, axes=axes), UNITS, chosen)
        assert np.rot90(found, axes=axes) == pytest.approx(turned, abs=1e-9)
    assert np.flip(found, 2) == pytest.approx(response(np.flip(cube, 2), UNITS, chosen), abs=1e-9)


def test_a_steered_response_follows_an_oblique_wave_and_the_first_direction_is_across_it() -> None:
    """Along the wave lies all of its second derivative, and none in the two directions within its fronts."""
    size = 65
    z, y, x = np.mgrid[:size, :size, :size]
    wave = np.cos(2 * np.pi * (10 * x + 8 * y + 6 * z) / size)
    plain = response(wave, UNITS, parse_filter("simoncelli"))
    middle = (slice(25, 40),) * 3
    first, second, third = (
        response(wave, UNITS, parse_filter(f"simoncelli riesz={orders} steer=3"))[middle]
        for orders in ("2,0,0", "0,2,0", "0,0,2")
    )
    np.testing.assert_allclose(first, -plain[middle], atol=1e-9)
    assert max(np.abs(second).max(), np.abs(third).max()) < 1e-9


def test_the_window_of_a_steered_response_is_in_millimetres() -> None:
    chosen, coarser = parse_filter("simoncelli riesz=2,0,0 steer=2"), parse_filter("simoncelli riesz=2,0,0 steer=4")
    assert response(VOXELS, UNITS, chosen) == pytest.approx(response(VOXELS, (2.0, 2.0, 2.0), coarser))
    assert response(VOXELS, UNITS, chosen) != pytest.approx(response(VOXELS, UNITS, coarser))


@pytest.mark.parametrize("orders", ["1,0", "0,0,0", "1,0,0,0", "a,0,0", "5,5,0", "-1,0,0"])
def test_riesz_orders_are_one_digit_for_each_axis(orders: str) -> None:
    with pytest.raises(ConfigError, match="Riesz orders are 3 digits"):
        parse_filter(f"simoncelli riesz={orders}")


def test_mirror_repeats_the_border_and_goes_back_and_nearest_stays() -> None:
    assert along_x([3, 5, 1, 9], "mean size=5 boundary=mirror")[0] == pytest.approx((5 + 3 + 3 + 5 + 1) / 5)
    assert along_x([3, 5, 1, 9], "mean size=5 boundary=nearest")[0] == pytest.approx((3 + 3 + 3 + 5 + 1) / 5)


@pytest.mark.parametrize("pooling", ["average", "max", "min"])
@pytest.mark.parametrize("text", ["laws kernels=L5E5S5", "wavelet family=db3 kernels=LHH level=2"])
def test_a_pooled_response_turns_with_the_image(text: str, pooling: str) -> None:
    chosen = parse_filter(f"{text} pooling={pooling}")
    cube = np.random.default_rng(1).normal(0, 1, (15, 15, 15))
    found = response(cube, UNITS, chosen)
    for axes in ((0, 1), (1, 2), (0, 2)):
        turned = response(np.rot90(cube, axes=axes), UNITS, chosen)
        assert np.rot90(found, axes=axes) == pytest.approx(turned, abs=1e-9)


def test_pooling_within_slices_turns_within_slices() -> None:
    chosen = parse_filter("laws kernels=L5E5 pooling=max energy=1")
    image = np.random.default_rng(1).normal(0, 1, (3, 15, 15))
    found = response(np.rot90(image, axes=(1, 2)), UNITS, chosen)
    assert np.rot90(response(image, UNITS, chosen), axes=(1, 2)) == pytest.approx(found)


def test_wavelets_without_decimation_keep_a_constant_in_the_low_pass_only() -> None:
    image = np.full((9, 9, 9), 5.0)
    low, high = (
        response(image, UNITS, parse_filter(f"wavelet family=coif1 kernels={kernels} level=2"))
        for kernels in ("LLL", "LLH")
    )
    assert low == pytest.approx(np.full(low.shape, 5 * 2**3))  # each low pass has a sum of the root of 2
    assert np.abs(high).max() < 1e-9


def test_filters_of_the_settings_are_images_after_those_of_pyradiomics() -> None:
    settings = RadiomicsSettings(filters=TEXTS[:2], log_sigma_mm=(2.0,))
    box = (slice(2, 9), slice(3, 9), slice(4, 9))
    images = dict(filtered_images(VOXELS, SPACING_MM, box, settings))
    assert tuple(images) == image_names(settings) == ("log-sigma-2-0-mm-3D", *TEXTS[:2])
    assert {image.shape for image in images.values()} == {(7, 6, 5)}
    assert tuple(filtered_images(VOXELS, SPACING_MM, box, replace(settings, filters=(), log_sigma_mm=()))) == ()


def test_one_slice_and_one_voxel_have_responses() -> None:
    for shape in ((1, 6, 7), (1, 1, 1)):
        for text in TEXTS:
            chosen: ImageFilter = parse_filter(text)
            assert np.isfinite(response(np.ones(shape), SPACING_MM, chosen)).all(), text


@pytest.mark.parametrize(
    "text",
    [
        "simoncelli", "mean size=5 boundary=periodic", "gabor sigma=1.5 wavelength=3", "log sigma=2",
        "log sigma=2 boundary=periodic", "log sigma=2 riesz=0,1,0",
    ],
)  # fmt: skip
def test_a_resampled_organ_is_filtered_as_the_whole_resampled_image(text: str) -> None:
    mask = np.zeros(VOXELS.shape, bool)
    mask[1:5, 3:8, 9:15] = True
    box = (slice(1, 5), slice(3, 8), slice(9, 15))
    near, far = (
        RadiomicsSettings(spacing_mm=(2.5, 2.0, 2.0), filters=(one,))
        for one in (text, "simoncelli")  # reads it all
    )
    region, whole = (prepare(VOXELS, mask[box], box, SPACING_MM, settings) for settings in (near, far))
    cropped, complete = (
        response_within(one.voxels_hu, one.spacing_mm, one.box, parse_filter(text)) for one in (region, whole)
    )
    assert cropped == pytest.approx(complete, abs=1e-3)


def test_responses_are_measured_like_other_filtered_images_and_say_which_filter_made_them() -> None:
    organ = Segment(1, "organ", "Organ", ANATOMICAL_STRUCTURE, LUNG, None, (0, 0, 0), (1,))
    mask = np.zeros(VOXELS.shape, np.uint8)
    mask[3:9, 4:12, 4:12] = 1
    settings = RadiomicsSettings(filters=("laws kernels=L5E5S5 pooling=max",))
    volume = Volume(VOXELS, SPACING_MM, np.eye(4))
    original, filtered = measure_segments(volume, Segmentation(mask, (organ,)), {"organ"}, settings)
    assert filtered.image == settings.filters[0]
    assert len(filtered.features) == 93
    assert len(original.features) == 107
    assert filter_text(filtered.image, settings) == "IBSI 2, laws kernels=L5E5S5 pooling=max"


def test_every_discrete_wavelet_of_pywavelets_is_known() -> None:
    import pywt

    names = set(pywt.wavelist(kind="discrete"))
    for name in names:
        parse_filter(f"wavelet family={name} kernels=LH")
    assert len(names) == 106
