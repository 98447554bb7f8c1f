"""The phantom's truth is correct, its DICOM is that of a CT, and it is the same every time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from orthanc_plugin.phantoms import anatomy
from orthanc_plugin.phantoms.anatomy import FIELD_OF_VIEW_MM
from orthanc_plugin.phantoms.dicom import PatientPosition, StorageOrder, encode_phantom, write_phantom
from orthanc_plugin.phantoms.phantom import LABELS, Phantom, make_phantom
from orthanc_plugin.phantoms.sections import Ellipse, Line
from orthanc_plugin.series.read import read_series


@cache
def default_phantom() -> Phantom:
    return make_phantom()


def mask(phantom: Phantom, key: str) -> np.ndarray:
    return phantom.labels > 0 if key == "body" else phantom.labels == LABELS[key]


@pytest.mark.parametrize(
    "ellipse",
    [
        Ellipse(3, -2, 20, 11),
        Ellipse(3, -2, 20, 11, 0.7),
        Ellipse(3, -2, 20, 11, cut=Line(0.0, 10.0)),
        Ellipse(3, -2, 20, 11, 0.7, cut=Line(2.0, -4.0)),
        Ellipse(3, -2, 20, 11, 0.7, cut=Line(2.0, 100.0)),
    ],
)
def test_area_of_a_section_is_the_area_of_its_points(ellipse: Ellipse) -> None:
    axis = np.arange(-40, 40, 0.05, dtype=np.float32)
    counted = np.count_nonzero(ellipse.contains(axis[None, :], axis[:, None])) * 0.05**2
    assert counted == pytest.approx(ellipse.area(), rel=5e-3, abs=0.01)


@pytest.mark.parametrize("z", np.linspace(-140, 140, 25))
def test_sections_add_up_and_do_not_overlap(z: float) -> None:
    """Volumes are exact because parts are disjoint, what is removed lies inside, and structures do not meet."""
    axis = np.arange(-165, 165, 0.5, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    count = np.zeros((len(axis), len(axis)), np.uint8)
    for section in (anatomy.lung(z, 1), anatomy.lung(z, -1), anatomy.airway(z), anatomy.bone(z)):
        points = np.zeros_like(count)
        for part in section.parts:
            points += part.contains(x, y)
        for hole in section.without:
            points -= hole.contains(x, y)
        assert points.max(initial=0) <= 1
        assert points.sum() / 4 == pytest.approx(section.area(), rel=0.02, abs=2)
        count += points
    assert count.max() <= 1
    assert anatomy.BODY.contains(x, y)[count > 0].all()


@pytest.mark.parametrize("key", LABELS)
def test_label_map_has_the_exact_volumes_within_two_percent(key: str) -> None:
    phantom = default_phantom()
    counted = np.count_nonzero(mask(phantom, key)) * phantom.volume.voxel_ml
    assert counted == pytest.approx(phantom.volumes_ml[key], rel=0.02)


def test_trunk_and_trachea_have_the_volume_of_the_textbook() -> None:
    phantom = make_phantom((8, 16, 16))
    assert phantom.volumes_ml["body"] == pytest.approx(pi * 160 * 118 * FIELD_OF_VIEW_MM[0] / 1000)
    trachea_ml = pi * 11 * 8.5 * (FIELD_OF_VIEW_MM[0] / 2 - 43.2) / 1000
    bronchi_ml = 2 * pi * 5.5**2 * (43.2 - 5.4) / 1000
    assert phantom.volumes_ml["airway"] == pytest.approx(trachea_ml + bronchi_ml)


def test_volumes_grow_with_the_field_of_view() -> None:
    small = make_phantom((8, 16, 16), (20.0, 10.0, 10.0))
    large = make_phantom((8, 16, 16), (40.0, 20.0, 10.0))
    assert large.volumes_ml["lung_left"] == pytest.approx(4 * small.volumes_ml["lung_left"])


def test_tissues_have_their_hounsfield_units() -> None:
    phantom = default_phantom()
    expected = {"lung_left": -860, "lung_right": -860, "airway": -1000, "bone": 500}
    for key, hu in expected.items():
        assert np.median(phantom.volume.voxels_hu[mask(phantom, key)]) == pytest.approx(hu, abs=60)
    air = phantom.volume.voxels_hu[:, :20, :20]
    assert air.std() == pytest.approx(20, abs=6)


def test_anatomy_hangs_together() -> None:
    """Left is left; the airway is one tree from the top to the height of both lungs; lungs stay in the body."""
    from scipy import ndimage

    phantom = default_phantom()
    x = {key: np.argwhere(mask(phantom, key))[:, 2].mean() for key in ("lung_left", "lung_right")}
    assert x["lung_left"] > 96 > x["lung_right"]
    airway = mask(phantom, "airway")
    assert ndimage.label(airway, np.ones((3, 3, 3)))[1] == 1
    assert airway[-1].any()
    assert np.argwhere(airway)[:, 0].max() > np.argwhere(mask(phantom, "lung_left"))[:, 0].max()
    for key in ("lung_left", "lung_right"):
        lung = mask(phantom, key)
        assert not lung[[0, -1]].any()
        assert (phantom.labels[ndimage.binary_dilation(lung)] > 0).all()
        assert ndimage.label(lung)[1] == 1
        assert (ndimage.binary_dilation(lung, iterations=3) & airway).any()


def test_same_seed_same_phantom_other_seed_other_noise() -> None:
    first, again, other = (make_phantom((6, 24, 24), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.volume.voxels_hu, again.volume.voxels_hu)
    assert (first.volume.voxels_hu != other.volume.voxels_hu).mean() > 0.9
    np.testing.assert_array_equal(first.labels, other.labels)


def test_progress_counts_the_slices() -> None:
    seen: list[tuple[int, int]] = []
    make_phantom((4, 16, 16), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_uids_come_from_the_seed() -> None:
    def uids(seed: int, uid_seed: str = "", position: PatientPosition = PatientPosition.HFS) -> set[str]:
        instances = encode_phantom(make_phantom((4, 16, 16), seed=seed), uid_seed=uid_seed, position=position)
        return {str(instances[0].SeriesInstanceUID), *(str(ds.SOPInstanceUID) for ds in instances)}

    assert uids(0) == uids(0)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids(0))
    others = uids(1), uids(0, "x"), uids(0, position=PatientPosition.FFS)
    assert all(uids(0).isdisjoint(other) for other in others)


def test_written_files_are_read_back_and_valid(tmp_path: Path) -> None:
    phantom = make_phantom((6, 24, 24))
    paths = write_phantom(tmp_path / "ct", phantom, order=StorageOrder.SHUFFLED)
    assert [path.name for path in paths] == [f"{n:04d}.dcm" for n in range(1, 7)]
    series = read_series(dcmread(path) for path in paths)
    np.testing.assert_array_equal(series.volume.voxels_hu, phantom.volume.voxels_hu)
    checker = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}") or shutil.which("dciodvfy")
    assert checker, "dciodvfy (package dicom3tools) is missing"
    for position in PatientPosition:
        (path, *_) = write_phantom(tmp_path / position, phantom, position=position)
        check = subprocess.run([checker, "-new", path], capture_output=True, text=True, errors="replace", check=False)
        assert "Error" not in check.stderr + check.stdout
        assert check.returncode == 0


def test_half_disc_and_segment_have_their_known_areas() -> None:
    assert Ellipse(0, 0, 1, 1, cut=Line(1.0, 0.0)).area() == pytest.approx(pi / 2)
    assert Ellipse(0, 0, 1, 1, cut=Line(0.0, 0.5)).area() == pytest.approx(pi / 3 - sqrt(3) / 4)
