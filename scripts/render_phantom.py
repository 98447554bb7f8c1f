"""Picture for the README: what the built-in model finds on the phantom, axial and coronal, as a radiologist sees them.

Usage: python scripts/render_phantom.py docs/images/phantom.png
"""

from __future__ import annotations

import sys

import numpy as np
import SimpleITK as sitk

from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.inference.engine import open_engine
from orthanc_plugin.inference.providers import Provider
from orthanc_plugin.phantoms.phantom import make_phantom


def overlay(hu: np.ndarray, labels: np.ndarray, found: Segmentation) -> np.ndarray:
    """(rows, columns, 3) uint8: chest window, structures tinted in their colours, outlines full."""
    grey = np.clip((hu + 1000) / 1400 * 255, 0, 255)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for segment in found.segments:
        if segment.key == "body":
            continue
        mask = labels == segment.number
        inside = sitk.GetArrayFromImage(sitk.BinaryErode(sitk.GetImageFromArray(mask.astype(np.uint8))))
        outline = mask & (inside == 0)
        colour = np.array(segment.colour)
        picture[mask] = 0.55 * picture[mask] + 0.45 * colour
        picture[outline] = colour
    return picture.astype(np.uint8)


def main(path: str) -> None:
    """Render and write."""
    phantom = make_phantom(shape=(192, 224, 224))
    found = open_engine(find_model("chest_structures", None), Provider.CPU).segment(phantom.volume)
    hu, labels = phantom.volume.voxels_hu, found.labels
    z, y = 120, 118
    axial = overlay(hu[z], labels[z], found)
    coronal = overlay(hu[::-1, y], labels[::-1, y], found)
    height = max(axial.shape[0], coronal.shape[0])
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 8), (0, 0))) for p in (axial, coronal)]
    picture = np.repeat(np.repeat(np.concatenate(padded, axis=1), 2, axis=0), 2, axis=1)
    sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), path)


if __name__ == "__main__":
    main(sys.argv[1])
