"""The engine compared with bpreg 1.1.0: the same scans and weights give the same curves.

The network is a VGG of random weights with a last layer fitted to the scan, so that its scores rise as they should.
Largest difference of scores seen: 9e-5 points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.conversion.convert import convert_model
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.bpr import regions
from orthanc_plugin.inference.bpr.engine import BprEngine, Mode
from orthanc_plugin.inference.bpr.scores import peer_curve
from orthanc_plugin.inference.bpr.slices import slice_batches
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.dicom import write_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from tests.parity.bpr import bpreg_stages, peers
from tests.parity.bpr.peers import Peer
from tests.parity.bpr.public_folder import END_RAW, START_RAW, fit_head, random_weights, write_public_folder
from tests.parity.nnunet.cts import cut, load, to_nifti
from tests.support.cases import bpr_case
from tests.support.cases.realct import real_ct

SCORES = 1e-2  # demanded by the issue: 0.5
MODEL = bpr_case.bpr_model(START_RAW, END_RAW, size=128, pixel_mm=3.5)


def _cip(out: Path) -> Path:
    return cut(real_ct("cip_ct64/dicom"), out, slice(0, None, 2), slice(None), slice(None))


def _lidc(out: Path) -> Path:
    return cut(real_ct("lidc_0314_chest/dicom"), out, slice(10, 270, 8), slice(None), slice(None))


def _phantom(out: Path) -> Path:
    write_phantom(out, make_phantom((36, 80, 96), (9.0, 5.0, 4.0)))
    return out


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT as this project reads it and as NIfTI, with a model whose scores rise over it.

    folder: the model as bpreg reads it. card: converted. found: bpreg's JSON.
    """

    volume: Volume
    nifti: Path
    folder: Path
    card: ModelCard
    found: dict[str, Any]


@pytest.fixture(scope="module", params=[_cip, _lidc, _phantom], ids=["cip_ct64", "lidc_0314", "phantom"])
def scan(request: pytest.FixtureRequest, bpreg: Peer, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    root = tmp_path_factory.mktemp("scan")
    dicom = request.param(root / "dicom")
    volume, nifti = load(dicom), to_nifti(dicom, root / "nifti" / "case.nii.gz")
    state = random_weights(20)
    plain = write_public_folder(root / "plain", state)
    slices = bpreg.call(peers.preprocessed, plain, nifti)
    z = np.arange(len(slices)) * volume.spacing_mm[0]
    scores = START_RAW + (25 + 0.118 * z) / 100 * (END_RAW - START_RAW)
    state = fit_head(state, slices[:, None], scores)
    folder = write_public_folder(root / "fitted", state)
    return Scan(volume, nifti, folder, convert_model(folder, "bpr", root), bpreg.call(peers.located, folder, nifti))


def engine(scan: Scan, mode: Mode) -> BprEngine:
    return BprEngine(scan.card, Provider.CPU, mode)


def peer_landmarks(cleaned: np.ndarray) -> dict[str, int]:
    """The published notebook's rule on bpreg's scores."""
    last = {key: np.flatnonzero(cleaned < mean)[-1:] for key, (mean, _) in bpr_case.TABLE.items()}
    return {key: int(index[0]) for key, index in last.items() if index.size and 0 < index[0] < len(cleaned) - 1}


def assert_same(location: BodyLocation, found: dict[str, Any]) -> None:
    """A location in peer mode against bpreg's JSON."""
    cleaned = np.array(found["cleaned slice scores"], float)
    np.testing.assert_allclose(location.raw_scores, found["unprocessed slice scores"], atol=SCORES)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.array(location.scores, float), cleaned, atol=SCORES)
    parts = {Region(name): tuple(map(int, at)) for name, at in found["body part examined"].items() if at}
    assert dict(location.regions) == parts
    assert location.tag == found["body part examined tag"]
    assert float(location.valid_spacing) == found["valid z-spacing"]
    assert float(location.reversed) == found["reverse z-ordering"]
    assert location.slope_per_mm == pytest.approx(found["observed slope"], abs=1e-4)
    assert location.slope_ratio == pytest.approx(found["slope ratio"], abs=1e-3)
    assert location.expected_spacing_mm == pytest.approx(found["expected z-spacing"], abs=1e-2)
    ours, theirs = {mark.key: mark.slice_index for mark in location.landmarks}, peer_landmarks(cleaned)
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[key] - theirs[key]) for key in ours) <= 1


def test_slices_enter_the_network_as_they_do_in_the_original(scan: Scan, bpreg: Peer) -> None:
    theirs = bpreg.call(peers.preprocessed, scan.folder, scan.nifti)
    _, y, x = scan.volume.spacing_mm
    ours = np.concatenate(list(slice_batches(scan.volume.voxels_hu, (y, x), range(len(theirs)), MODEL, 16)))
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-5)


def test_peer_mode_is_the_original(scan: Scan) -> None:
    location = engine(scan, Mode.PEER).locate(scan.volume)
    assert_same(location, scan.found)
    assert len(location.landmarks) > 10


def test_default_mode_finds_the_same_landmarks(scan: Scan) -> None:
    """Away from the ends of the scan, which the original bends."""
    theirs = peer_landmarks(np.array(scan.found["cleaned slice scores"], float))
    location = engine(scan, Mode.DEFAULT).locate(scan.volume)
    rim = int(np.ceil(25 / scan.volume.spacing_mm[0]))
    ours = {mark.key: mark.slice_index for mark in location.landmarks}
    inner = [key for key, at in theirs.items() if rim <= at < len(location.scores) - rim]
    assert len(inner) > 8
    assert max(abs(ours[key] - theirs[key]) for key in inner) <= 1
    assert location.valid_spacing == bool(scan.found["valid z-spacing"])


def test_peer_mode_mirrors_a_stack_stored_from_head_to_foot(
    bpreg: Peer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("falling")
    dicom = _phantom(root / "dicom")
    rising = load(dicom)
    image = sitk.Flip(sitk.ReadImage(str(to_nifti(dicom, root / "case.nii.gz"))), [False, False, True])
    sitk.WriteImage(image, str(root / "falling.nii.gz"))
    turn = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, len(rising.voxels_hu) - 1], [0, 0, 0, 1.0]])
    falling = Volume(rising.voxels_hu[::-1], rising.spacing_mm, rising.affine @ turn)
    folder = write_public_folder(root / "model", random_weights(20))
    found = bpreg.call(peers.located, folder, root / "falling.nii.gz")
    location = BprEngine(convert_model(folder, "bpr", root), Provider.CPU, Mode.PEER).locate(falling)
    np.testing.assert_allclose(location.raw_scores, found["unprocessed slice scores"], atol=SCORES)  # type: ignore[arg-type]


Z = np.arange(0, 900, 5.0)


def _line(first: float, slope: float = 0.118, noise: float = 0.0, count: int = 180) -> np.ndarray:
    return first + slope * Z[:count] + noise * np.random.default_rng(1).normal(size=count)


def _with(values: np.ndarray, where: slice, what: float) -> np.ndarray:
    changed = values.copy()
    changed[where] = what
    return changed


CURVES: dict[str, Callable[[], np.ndarray]] = {
    "whole body": partial(_line, -5, 0.125, 1.0),
    "chest": partial(_line, 40, 0.118, 0.5, 70),
    "falling": partial(_line, 105, -0.118, 0.5),
    "spacing too wide": partial(_line, 20, 0.2, 0.5, 70),
    "flat": partial(_line, 50, 0.0, 0.0),
    "noise": partial(_line, 50, 0.0, 20.0),
    "short": partial(_line, 50, 0.118, 0.2, 12),
    "beyond the head": partial(_line, 150, 0.118, 0.2, 60),
    "one slice": partial(_line, 50, 0.118, 0.0, 1),
    "two slices": partial(_line, 50, 0.118, 0.0, 2),
    "tails": lambda: np.concatenate([np.linspace(70, 0, 20), _line(0, count=175), np.linspace(103, 190, 20)]),
    "falling tails": lambda: np.concatenate([np.linspace(70, 0, 20), _line(0, count=175), np.linspace(103, 190, 20)])[
        ::-1
    ].copy(),
    "empty slices": lambda: _with(_with(_line(20, noise=0.3, count=120), slice(50, 60), np.nan), slice(5), np.nan),
    "nothing but empty slices": lambda: np.full(40, np.nan),
}
"""Transformed scores; NaN stands for what bpreg's own weights give to an empty slice."""


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_judged_as_by_the_original(name: str, bpreg: Peer, public_folder: Path) -> None:
    wanted = CURVES[name]()
    scores = np.where(np.isnan(wanted), 108.92, START_RAW + wanted / 100 * (END_RAW - START_RAW))
    found = bpreg.call(bpreg_stages.judged, public_folder, scores, 5.0)
    curve = peer_curve(scores, 5.0, MODEL)
    np.testing.assert_allclose(curve.cleaned, np.array(found["cleaned slice scores"], float), atol=1e-9)
    theirs = [found[key] for key in ("observed slope", "slope ratio", "expected z-spacing")]
    np.testing.assert_allclose([curve.slope_per_mm, curve.ratio, curve.expected_spacing_mm], theirs, atol=1e-9)
    assert float(curve.reversed) == found["reverse z-ordering"]
    assert np.isnan(found["valid z-spacing"]) or float(curve.valid_spacing) == found["valid z-spacing"]
    parts = {Region(part): tuple(map(int, at)) for part, at in found["body part examined"].items() if at}
    assert regions.regions(curve.cleaned, MODEL) == parts
    if found["valid z-spacing"] != 0:
        assert regions.tag(curve.cleaned, len(scores) * 5.0, MODEL) == found["body part examined tag"]
    marks = {mark.key: mark.slice_index for mark in regions.peer_landmarks(curve, 5.0 * np.arange(len(scores)), MODEL)}
    assert marks == peer_landmarks(np.array(found["cleaned slice scores"], float))
