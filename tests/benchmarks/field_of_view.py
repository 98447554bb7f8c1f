"""Patches that a smaller field of view saves, and what it does to Dice.

    python -m tests.benchmarks.field_of_view thorax_standin=FOLDER head_neck_oar=FOLDER [--write]

Each model segments a CT whole, within the box of its body, and within the slices of head and neck where the CT shows a
head. Dice compares with the whole scan. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import dcmread

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Labels, Mask
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference import network
from orthanc_plugin.inference.engine import SegmentationEngine, open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.pipeline.field import head_and_neck
from orthanc_plugin.quality.outline import body_mask
from orthanc_plugin.series.read import read_series
from tests.benchmarks.scaling_page import PERFORMANCE, markdown, write_part

MARGIN_MM = 20.0
WHOLE = (slice(None), slice(None), slice(None))
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model found in a field of view. labels: on the grid of the whole scan."""

    labels: Labels
    patches: int
    seconds: float


def body_box(volume: Volume) -> Box:
    """Find the box of the body, with a margin."""
    z, y, x = volume.spacing_mm
    body = np.stack([body_mask(plane, (y, x)) for plane in volume.voxels_hu])
    edges = [np.flatnonzero(body.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    margins = [round(MARGIN_MM / mm) for mm in (z, y, x)]
    first, second, third = (
        slice(max(0, int(edge[0]) - margin), int(edge[-1]) + margin + 1)
        for edge, margin in zip(edges, margins, strict=True)
    )
    return first, second, third


def field_box(volume: Volume) -> Box | None:
    """Find the slices of head and neck."""
    crop = head_and_neck(volume, None)
    return None if crop is None else (slice(crop.first, crop.last + 1), slice(None), slice(None))


def seen_in(box: Box, volume: Volume, engine: SegmentationEngine) -> Seen:
    """Segment a part of a scan, and count the patches."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start or 0 for part in box[::-1]]
    labels, count, began = np.zeros(volume.voxels_hu.shape, np.uint8), 0, time.perf_counter()
    run = network.Network.run

    def counted(self: network.Network, values: network.Values) -> network.Values:
        nonlocal count
        count += 1
        return run(self, values)

    network.Network.run = counted  # type: ignore[method-assign]
    try:
        found = engine.segment(replace(volume, voxels_hu=volume.voxels_hu[box], affine=affine))
    finally:
        network.Network.run = run  # type: ignore[method-assign]
    labels[box] = found.labels
    return Seen(labels, count, time.perf_counter() - began)


def rows_of(model: str, folder: Path) -> Iterator[list[str]]:
    """Measure one model on one CT; the first row is that of the whole scan."""
    volume = read_series(dcmread(path) for path in sorted(folder.iterdir())).volume
    engine = open_engine(find_model(model, None), Provider.CPU)
    whole = seen_in(WHOLE, volume, engine)
    boxes = {"whole scan": WHOLE, "body": body_box(volume), "head and neck": field_box(volume)}
    for name, box in boxes.items():
        if box is None:
            continue
        seen = whole if box is WHOLE else seen_in(box, volume, engine)
        found = [_dice(whole.labels == number, seen.labels == number) for number in np.unique(whole.labels)[1:]]
        voxels = np.prod(volume.voxels_hu[box].shape) / volume.voxels_hu.size
        dice = f"{min(found, default=1.0):.4f}"
        yield [model, folder.name, name, f"{100 * voxels:.0f} %", str(seen.patches), f"{seen.seconds:.1f}", dice]


def _dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="MODEL=FOLDER")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    cases = [case.split("=", 1) for case in arguments.cases]
    rows = [row for model, folder in cases for row in rows_of(model, Path(folder))]
    head = ["model", "CT", "field of view", "voxels", "patches", "seconds", "lowest Dice against the whole scan"]
    table = markdown(head, rows)
    print(table)
    if arguments.write:
        write_part("field of view", table, page=PERFORMANCE)


if __name__ == "__main__":
    main()
