"""Dice of a model that sees only a region against the same model on the whole scan.

    python -m tests.benchmarks.crop_against_whole                        chest_structures on the phantom
    python -m tests.benchmarks.crop_against_whole --dicom FOLDER         on a CT series
    python -m tests.benchmarks.crop_against_whole --body 7               on a body from the pelvis to the neck
    python -m tests.benchmarks.crop_against_whole --models DIR --model NAME --locate NAME --region abdomen

Without --locate the region is where the whole scan shows lungs (`chest` only). The last column counts only the slices
that the cropped model saw: what differs there is the crop's doing and not what it left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.engine import open_engine, open_locator
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.phantom import make_phantom
from orthanc_plugin.pipeline import crop_to, segment_part
from orthanc_plugin.series.read import read_series
from tests.support.phantoms.body import make_body_phantom


def main() -> None:
    arguments = _arguments()
    engine = open_engine(find_model(arguments.model, arguments.models), Provider.CPU)
    volume = _volume(arguments.dicom, arguments.body)
    began = time.monotonic()
    whole = engine.segment(volume)
    seconds = time.monotonic() - began
    crop = crop_to(Region(arguments.region), volume, _location(arguments, volume, whole), "benchmark")
    if crop is None:
        raise SystemExit(f"{arguments.region} is not in the scan")
    began = time.monotonic()
    part = segment_part(volume, engine, crop)
    print(
        f"{arguments.model}, slices {crop.first + 1} to {crop.last + 1} of {len(volume.voxels_hu)}:"
        f" {time.monotonic() - began:.1f} s against {seconds:.1f} s"
    )
    print(f"{'structure':24} {'Dice':>7} {'inside':>7}")
    inside = slice(crop.first, crop.last + 1)
    for segment in whole.segments:
        one, other = whole.mask(segment), part.mask(segment)
        print(f"{segment.key:24} {_dice(one, other):7.4f} {_dice(one[inside], other[inside]):7.4f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dicom", type=Path)
    parser.add_argument("--body", type=int, metavar="SEED")
    parser.add_argument("--models", type=Path, help="ModelsDirectory")
    parser.add_argument("--model", default="chest_structures")
    parser.add_argument("--locate", default="", help="a body part regression")
    parser.add_argument("--region", default="chest", choices=[*Region])
    return parser.parse_args()


def _volume(dicom: Path | None, body: int | None) -> Volume:
    if body is not None:
        return make_body_phantom(body, (-400.0, 200.0), (4.0, 3.0, 3.0)).phantom.volume
    if dicom is None:
        return make_phantom((112, 128, 128)).volume
    return read_series(dcmread(path) for path in sorted(dicom.iterdir())).volume


def _location(arguments: argparse.Namespace, volume: Volume, whole: Segmentation) -> BodyLocation:
    if arguments.locate:
        return open_locator(find_model(arguments.locate, arguments.models), Provider.CPU).locate(volume)
    lungs = [whole.mask(segment) for segment in whole.segments if segment.key.startswith("lung")]
    slices = np.flatnonzero(np.any(lungs, axis=(0, 2, 3))) if lungs else ()
    return BodyLocation(
        (), (), (), (), {Region.CHEST: tuple(map(int, slices))}, {}, None, None, None,
        valid_spacing=True, reversed=False, tag="CHEST",
    )  # fmt: skip


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    both = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / both if both else 1.0


if __name__ == "__main__":
    main()
