"""Masks that software wrote which cannot be installed beside ours, and what is inside them.

Each file holds `MASKS` on the slices of `chest`. `write_masks.py` made them, in an environment of its own:
pydicom-seg 0.4.1 and rt-utils 1.2.7 with pydicom 2.4.
"""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from orthanc_plugin.domain.masks import Mask
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.series.read import read_series
from tests.support.cases.foreign_case import balls

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.dcm")))


def chest() -> tuple[list[Dataset], CtSeries]:
    """The CT: its instances, and the series that is read of them."""
    instances = encode_phantom(make_phantom((16, 40, 40), (5, 8, 8)))
    return instances, read_series(iter(instances))


def masks(series: CtSeries) -> list[Mask]:
    """The masks of each file: a ball with a hole along z, and a ball with a row of single voxels beside it."""
    one, two = balls(series, (0, 0.1, 0.5), (0, -0.1, -0.5), radius=0.4)
    (hole,) = balls(series, (0, 0.1, 0.5), radius=0.15)
    one &= ~hole.any(axis=0)
    two[8, 2, 3:9] = True
    return [one, two]


def written(name: str) -> Dataset:
    """One file, read."""
    return dcmread(FOLDER / f"{name}.dcm")
