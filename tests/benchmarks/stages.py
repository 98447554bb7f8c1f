"""The stages of a job as sides that can be timed: this project's, and a peer's on the same data where there is one.

A stage prepares its data once and gives a function for each side. Functions return nothing; what they compute is
compared by tests, not here. `Size.CI` takes seconds; `Size.FULL` is a real chest of 275 slices of 512 x 512, or arrays
of that size (where the chest is missing, a phantom stands in).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from scipy import ndimage

from orthanc_plugin.archive.dicomweb import DicomWebArchive
from orthanc_plugin.catalog.nnunet import Framework, LargestComponent
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.plan import SegEncoding
from orthanc_plugin.inference.engine import open_engine, open_locator
from orthanc_plugin.inference.nnunet.postprocess import keep_largest
from orthanc_plugin.inference.nnunet.resample import resample_image
from orthanc_plugin.inference.nnunet.restore import Member, restore, taps
from orthanc_plugin.inference.nnunet.window import Slab
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series
from tests.benchmarks import bench_radiomics, bench_seg, reading_against_peers
from tests.support.cases import results_case
from tests.support.cases.realct import ROOT
from tests.support.servers.orthanc_server import PASSWORD, USER, OrthancServer, wait_until

OURS = "ours"
Sides = dict[str, Callable[[], object]]


class Size(StrEnum):
    """How much is measured."""

    CI = "ci"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: what prepares it, and whether CI measures it. Only a stage with a peer has a ratio."""

    prepare: Callable[[Size, ExitStack], Sides]
    ci: bool = False


def _waves(*shape: int) -> NDArray[np.float32]:
    z, y, x = (np.arange(side, dtype=np.float32) for side in shape)
    return np.asarray(800 * np.sin(y / 31)[:, None] * np.cos(x / 23) * np.sin(z / 41)[:, None, None], np.float32)


def _contents(size: Size) -> list[bytes]:
    chest = Path(os.environ.get("ENRICH_TEST_DATA", ROOT.parent / "shared" / "data"), "lidc_0314_chest", "dicom")
    if size is Size.FULL and chest.is_dir():
        return [file.read_bytes() for file in sorted(chest.iterdir())]
    shape = (60, 128, 128) if size is Size.CI else (120, 384, 384)
    contents = []
    for ds in encode_phantom(make_phantom(shape)):
        ds.save_as(content := BytesIO(), enforce_file_format=True)
        contents.append(content.getvalue())
    return contents


def load(size: Size, _: ExitStack) -> Sides:
    """DICOM in memory to HU."""
    contents = _contents(size)
    return {
        OURS: lambda: reading_against_peers.ours([], contents),
        "highdicom": lambda: reading_against_peers.by_highdicom([], contents),
    }


def resample(size: Size, _: ExitStack) -> Sides:
    """A CT to the network's grid by splines of order 3; the peer is what scikit-image's `resize` calls."""
    old, new = ((60, 200, 200), (48, 150, 150)) if size is Size.CI else ((300, 512, 512), (150, 367, 367))
    image = _waves(*old)
    factors = [b / a for a, b in zip(old, new, strict=True)]

    def peer() -> None:
        zoomed = ndimage.zoom(image.astype(float), factors, order=3, mode="nearest", grid_mode=True)
        np.clip(zoomed, image.min(), image.max(), out=zoomed)

    return {OURS: lambda: resample_image(image, new, order=3), "scipy, as nnU-Net": peer}


def _logits(heads: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Each class is sure of a range of HU, as a trained network's are of a place."""
    points = np.linspace(-1, 1, heads, dtype=np.float32)
    values = _waves(*shape) / 800
    return np.stack([40 * point * values - 20 * point**2 for point in points])


def argmax(size: Size, _: ExitStack, heads: int = 14) -> Sides:
    """Class values back to the image's grid, and the highest class of each voxel."""
    old, new = ((20, 64, 64), (50, 160, 160)) if size is Size.CI else ((100, 170, 170), (300, 512, 512))
    values = _logits(heads, old)
    z, y, x = (taps(a, b, 1) for a, b in zip(old, new, strict=True))
    out = np.zeros(new, np.uint8)
    factors = [b / a for a, b in zip(old, new, strict=True)]

    def peer() -> None:
        best, labels = np.full(new, -np.inf, np.float32), np.zeros(new, np.uint8)
        for head, each in enumerate(values):
            found = ndimage.zoom(each, factors, order=1, mode="nearest", grid_mode=True)
            np.copyto(labels, head, where=found > best)
            np.maximum(best, found, out=best)

    return {
        OURS: lambda: restore([Member([Slab(0, values)], (z, y, x), Framework.V2)], out, threads=2),
        "scipy, as nnU-Net": peer,
    }


def postprocessing(size: Size, _: ExitStack) -> Sides:
    """The largest component of each of four organs; the peer counts each component, as nnU-Net v1 does."""
    shape = (60, 128, 128) if size is Size.CI else (300, 512, 512)
    labels = (np.digitize(_waves(*shape), [-500, -100, 100, 500])).astype(np.uint8)
    rules = [LargestComponent((number,)) for number in range(1, 5)]

    def peer() -> None:
        image = labels.copy()
        for number in range(1, 5):
            parts, count = ndimage.label(image == number)
            sizes = {part: (parts == part).sum() for part in range(1, count + 1)}
            for part, voxels in sizes.items():
                if voxels != max(sizes.values()):
                    image[parts == part] = 0

    return {OURS: lambda: keep_largest(labels.copy(), rules, 1.0), "as nnU-Net v1": peer}


def seg(size: Size, _: ExitStack) -> Sides:
    """A SEG of four structures, BINARY."""
    if size is Size.FULL:
        series, found, card = bench_seg._case(4)
    else:
        series, card = results_case.small_series(128, 128, 40), results_case.CARD
        found = results_case.ellipsoids(series)
    case = (series, found, card, SegEncoding.BINARY)
    return {OURS: lambda: bench_seg._ours(*case), "highdicom": lambda: bench_seg._highdicoms(*case)}


def radiomics(size: Size, _: ExitStack) -> Sides:
    """All features of one organ."""
    if size is Size.FULL:
        image, mask = bench_radiomics._make(bench_radiomics.ORGANS["heart"])
    else:
        image = np.round(30 * np.random.default_rng(0).standard_normal((40, 60, 60), np.float32))
        z, y, x = np.ogrid[-1:1:40j, -1:1:60j, -1:1:60j]
        mask = z**2 + y**2 + x**2 < 0.8
    case = (image, mask, bench_radiomics.CLASSES)
    return {OURS: lambda: bench_radiomics._ours(*case), "pyradiomics": lambda: bench_radiomics._extractor(*case)}


def bpr(size: Size, _: ExitStack) -> Sides:
    """Landmarks of a CT, by the stand-in; `bpr_against_peer` has bpreg beside it."""
    locator = open_locator(find_model("bpr_standin", None), Provider.AUTO)
    volume = read_series(dcmread(BytesIO(content)) for content in _contents(size)).volume
    return {OURS: lambda: locator.locate(volume)}


def network(size: Size, _: ExitStack) -> Sides:
    """The built-in chest model; `nnunet_against_peer` has trained networks' sizes beside their frameworks."""
    engine = open_engine(find_model("chest_structures", None), Provider.AUTO)
    volume = read_series(dcmread(BytesIO(content)) for content in _contents(size)).volume
    return {OURS: lambda: engine.segment(volume)}


def sr(_: Size, __: ExitStack) -> Sides:
    """The report of radiomics of five structures."""
    series = results_case.small_series()
    found = results_case.ellipsoids(series)
    stored, features = results_case.encode(series, found), results_case.features_of(found)
    return {OURS: lambda: results_case.radiomics_report(series, stored, features)}


@contextmanager
def _orthanc() -> Iterator[OrthancServer]:
    with OrthancServer(stable_age_s=3600) as server:
        yield server


def _clients(server: OrthancServer, stack: ExitStack) -> tuple[DicomWebArchive, Any]:
    import requests
    from dicomweb_client import DICOMwebClient

    session = stack.enter_context(requests.Session())
    session.auth, session.trust_env = (USER, PASSWORD), False
    archive = stack.enter_context(closing(DicomWebArchive("bench", server.dicomweb_url, USER, PASSWORD)))
    return archive, DICOMwebClient(server.dicomweb_url, session=session)


def retrieve(size: Size, stack: ExitStack) -> Sides:
    """A series by WADO-RS, instance by instance, out of an Orthanc."""
    server = stack.enter_context(_orthanc())
    archive, peer = _clients(server, stack)
    instances = [dcmread(BytesIO(content)) for content in _contents(size)]
    for ds in instances:
        archive.store(ds)
    where = (str(instances[0].StudyInstanceUID), str(instances[0].SeriesInstanceUID))
    wait_until(lambda: len(archive.instances_of(*where)) == len(instances), 60, "the series")
    return {
        OURS: lambda: sum(1 for _ in archive.retrieve(*where)),
        "dicomweb-client": lambda: len(peer.retrieve_series(*where)),
    }


def stow(size: Size, stack: ExitStack) -> Sides:
    """A SEG by STOW-RS into an Orthanc; ours also reads the answer for what was refused."""
    server = stack.enter_context(_orthanc())
    archive, peer = _clients(server, stack)
    series = results_case.small_series(*((128, 128, 40) if size is Size.CI else (512, 512, 100)))
    ds = results_case.encode(series, results_case.ellipsoids(series))
    return {OURS: lambda: archive.store(ds), "dicomweb-client": lambda: peer.store_instances([ds])}


STAGES = {
    "load": Stage(load, ci=True),
    "resample": Stage(resample, ci=True),
    "network, built-in": Stage(network),
    "argmax": Stage(argmax, ci=True),
    "postprocessing": Stage(postprocessing, ci=True),
    "SEG": Stage(seg, ci=True),
    "radiomics": Stage(radiomics, ci=True),
    "BPR": Stage(bpr),
    "SR": Stage(sr),
    "retrieve": Stage(retrieve),
    "STOW": Stage(stow),
}


def growing() -> Iterator[tuple[str, Stage]]:
    """Yield stages whose cost grows with slices, classes and organs."""
    for slices in (100, 300, 1000):
        yield f"load, {slices} slices", Stage(lambda _, __, n=slices: _load_of(n))
        yield f"resample, {slices} slices", Stage(lambda _, __, n=slices: _resample_of(n))
    for heads in (2, 25, 118):
        yield f"argmax, {heads} classes", Stage(lambda _, stack, n=heads: argmax(Size.CI, stack, n))
    for organs in (1, 10, 104):
        yield f"SEG, {organs} organs", Stage(lambda _, __, n=organs: _seg_of(n))


def _load_of(slices: int) -> Sides:
    first = _contents(Size.CI)[0]
    template = dcmread(BytesIO(first))
    contents = []
    for index in range(slices):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = f"2.25.77.{index + 1}"
        template.ImagePositionPatient = [*template.ImagePositionPatient[:2], float(index)]
        template.InstanceNumber, template.SliceLocation = index + 1, float(index)
        template.save_as(content := BytesIO(), enforce_file_format=True)
        contents.append(content.getvalue())
    return {OURS: lambda: reading_against_peers.ours([], contents)}


def _resample_of(slices: int) -> Sides:
    image = _waves(slices, 128, 128)
    return {OURS: lambda: resample_image(image, (slices // 2, 96, 96), order=3)}


def _seg_of(organs: int) -> Sides:
    series = results_case.small_series(128, 128, 60)
    label = results_case.BONE
    card = bench_seg.replace(
        results_case.CARD,
        labels=tuple(
            bench_seg.replace(label, number=n, key=f"s{n}", label=f"Structure {n}", covers=(n,))
            for n in range(1, organs + 1)
        ),
    )
    labels = np.zeros((60, 128, 128), np.uint8)
    for n in range(organs):
        row, column = divmod(n, 11)
        labels[5:55, row * 11 : row * 11 + 9, column * 11 : column * 11 + 9] = n + 1
    found = bench_seg.Segmentation(labels, tuple(results_case.segment(each) for each in card.labels))
    return {OURS: lambda: bench_seg._ours(series, found, card, SegEncoding.BINARY)}
