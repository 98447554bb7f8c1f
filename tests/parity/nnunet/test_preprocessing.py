"""The array that enters the network, from the same DICOM, compared with nnU-Net v1, v2 and TotalSegmentator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from orthanc_plugin.catalog.nnunet import Configuration, Framework, Normalisation, Part, Previous, Resampling, Scheme
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.nnunet.orientation import network_turn
from orthanc_plugin.inference.nnunet.preprocess import Prepared, preprocess
from orthanc_plugin.inference.nnunet.resample import labels_from_frame, resample_to_frame
from tests.parity.nnunet import preprocessors
from tests.parity.nnunet.cts import Ct, prepare, voxels_of
from tests.parity.nnunet.peers import Peer

AXIAL = ("z:S", "y:P", "x:L")
CANONICAL = ("z:S", "y:A", "x:R")
CT = Normalisation(Scheme.CT, -1000.0, 620.5, 12.25, 301.75)
CUBIC = Resampling(3)
LINEAR = Resampling(1)
TOLERANCE = 1e-4
"""Of network units; the issue asks for 1e-3."""
TIES = 1e-4
"""Part of the voxels where labels may differ: equal scores, which the original tells apart by the last bit of a sum."""

Cts = Callable[[str], Ct]


def configuration(framework: Framework = Framework.V1, **changes: object) -> Configuration:
    plain = Configuration(
        name="3d_fullres",
        framework=framework,
        graphs=("fold_0.onnx",),
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        spacing_mm=(2.5, 0.977, 0.977),
        patch_size=(32, 64, 64),
        normalisation=CT,
        data_resampling=CUBIC,
        output_resampling=LINEAR,
        mirror_axes=(),
        tile_step=0.5,
        heads=4,
    )
    return replace(plain, **changes)


CASES = {
    "isotropic": ("lidc_0314 1 mm", {"spacing_mm": (1.5, 1.5, 1.5)}),
    "isotropic, finer": ("cip_ct64", {"spacing_mm": (3.1, 3.3, 3.3)}),
    "separate z, by the source": ("lidc_0314 5 mm", {"spacing_mm": (2.5, 0.977, 0.977)}),
    "separate z, by the target": ("lidc_0314 1 mm", {"spacing_mm": (4.0, 1.2, 1.2)}),
    "separate z, forced": ("lidc_0314 1 mm", {"data_resampling": Resampling(3, 0, True)}),
    "equal spacing": ("lidc_0314 stub", {"spacing_mm": (1.0, 0.78125, 0.78125)}),
    "transposed 1 0 2": ("lidc_0314 1 mm", {"transpose_forward": (1, 0, 2), "transpose_backward": (1, 0, 2)}),
    "transposed 2 0 1": ("lidc_0314 5 mm", {"transpose_forward": (2, 0, 1), "transpose_backward": (1, 2, 0)}),
    "zero padding is cropped": ("lidc_0314 framed", {}),
    "mask": ("lidc_0314 framed", {"normalisation": replace(CT, use_mask=True)}),
    "z-score": ("phantom", {"normalisation": replace(CT, scheme=Scheme.ZSCORE), "spacing_mm": (5.0, 4.0, 4.0)}),
    "z-score, mask": ("lidc_0314 framed", {"normalisation": replace(CT, scheme=Scheme.ZSCORE, use_mask=True)}),
    "2d": ("lidc_0314 1 mm", {"spacing_mm": (None, 0.9, 0.9), "patch_size": (64, 64)}),
    "2d, thick slices": ("lidc_0314 5 mm", {"spacing_mm": (None, 0.9, 0.9), "patch_size": (64, 64)}),
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    process = Peer(tmp_path_factory.mktemp("peer"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Cts:
    root = tmp_path_factory.mktemp("cts")
    return cache(lambda name: prepare(name, root))


def enter(volume: Volume, wanted: Configuration, labels: np.ndarray | None = None) -> Prepared:
    """What our engine gives the network; labels on the volume's own grid."""
    turn = network_turn(volume, AXIAL)
    z, y, x = (volume.spacing_mm[axis] for axis in turn.axes)
    previous = None if labels is None else turn.forward(labels)
    return preprocess(turn.forward(volume.voxels_hu), (z, y, x), wanted, previous)


@pytest.mark.parametrize("framework", list(Framework))
@pytest.mark.parametrize("case", list(CASES))
def test_the_array_that_enters_the_network_is_the_originals(
    case: str, framework: Framework, ct: Cts, peer: Peer
) -> None:
    name, changes = CASES[case]
    wanted = configuration(framework, **changes)
    expected = peer.call(preprocessors.prepared, ct(name).image, wanted)
    found = enter(ct(name).volume, wanted).data
    assert found.shape == expected.shape
    assert expected.std() > 0.2
    assert np.abs(found - expected).max() <= TOLERANCE


@pytest.mark.parametrize("framework", list(Framework))
@pytest.mark.parametrize(
    ("name", "spacing_mm"),
    [("lidc_0314 5 mm", (2.0, 1.7, 1.7)), ("lidc_0314 framed", (2.0, 1.7, 1.7)), ("phantom", (5.0, 6.0, 4.0))],
)
def test_labels_of_a_first_stage_enter_as_the_originals_do(
    name: str, spacing_mm: tuple[float, ...], framework: Framework, ct: Cts, peer: Peer, tmp_path: Path
) -> None:
    first = configuration(framework, name="3d_lowres")
    wanted = configuration(
        framework,
        spacing_mm=spacing_mm,
        transpose_forward=(1, 0, 2),
        transpose_backward=(1, 0, 2),
        previous=Previous(Part((first,), (0, 1, 2, 3))),
    )
    labels = np.digitize(ct(name).volume.voxels_hu, [-700, -50, 90]).astype(np.uint8)
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(sitk.ReadImage(str(ct(name).image)))
    sitk.WriteImage(image, str(tmp_path / "first.nii.gz"))
    expected = peer.call(preprocessors.prepared, ct(name).image, wanted, tmp_path / "first.nii.gz", 3)
    found = enter(ct(name).volume, wanted, labels).data
    assert found.shape == expected.shape == (4, *found.shape[1:])
    assert np.abs(found[0] - expected[0]).max() <= TOLERANCE
    assert np.mean(found[1:] != expected[1:]) <= TIES
    assert all(0 < mask.mean() < 1 for mask in found[1:])


@pytest.mark.parametrize(
    ("name", "spacing_mm"),
    [("lidc_0314 1 mm", 1.5), ("lidc_0314 5 mm", 1.5), ("lidc_0314 5 mm", 3.0), ("phantom", 6.0)],
)
def test_the_frame_is_totalsegmentators_there_and_back(
    name: str, spacing_mm: float, ct: Cts, peer: Peer, tmp_path: Path
) -> None:
    volume, frame = ct(name).volume, tmp_path / "frame.nii.gz"
    shape = peer.call(preprocessors.to_frame, ct(name).image, spacing_mm, frame)
    turn = network_turn(volume, CANONICAL)
    canonical = turn.forward(volume.voxels_hu)
    found = resample_to_frame(canonical, [volume.spacing_mm[axis] for axis in turn.axes], spacing_mm, 1)
    assert canonical.shape == shape[::-1]
    assert np.array_equal(found, voxels_of(frame))

    wanted = configuration(Framework.V2, spacing_mm=(spacing_mm,) * 3)
    entered = preprocess(found, (spacing_mm,) * 3, wanted).data
    assert np.abs(entered - peer.call(preprocessors.prepared, frame, wanted)).max() <= TOLERANCE

    labels = np.digitize(found, [-700, -50, 90]).astype(np.uint8)
    stored = sitk.GetImageFromArray(labels)
    stored.CopyInformation(sitk.ReadImage(str(frame)))
    sitk.WriteImage(stored, str(tmp_path / "labels.nii.gz"))
    back = tmp_path / "back.nii.gz"
    peer.call(preprocessors.from_frame, tmp_path / "labels.nii.gz", ct(name).image, spacing_mm, shape, back)
    assert np.array_equal(turn.backward(labels_from_frame(labels, canonical.shape)), voxels_of(back))
