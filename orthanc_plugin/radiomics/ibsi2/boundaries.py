"""What lies beyond an image, in the words of scipy and numpy."""

from __future__ import annotations

from orthanc_plugin.domain.image_filters import Boundary

SCIPY_MODES = {
    Boundary.ZERO: "constant",
    Boundary.NEAREST: "nearest",
    Boundary.PERIODIC: "wrap",
    Boundary.MIRROR: "reflect",
}
"""Of `scipy.ndimage`; its `reflect` repeats the voxel at the border."""

PADDING = {
    Boundary.ZERO: "constant",
    Boundary.NEAREST: "edge",
    Boundary.PERIODIC: "wrap",
    Boundary.MIRROR: "symmetric",
}
"""Of `numpy.pad`."""
