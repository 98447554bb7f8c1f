"""How large a series may be, told from its headers before anything is decoded or allocated.

A spacing in the wrong unit, a lying Rows or a series of endless slices would take memory before anybody sees the
nonsense. The limits lie beyond every CT of a patient: a scan field measures 0.5 to 0.8 m, a table moves 2 m.
"""

from __future__ import annotations

from orthanc_plugin.errors import InputError, Refusal

LARGEST_SIDE_PIXELS = 4096
LARGEST_FIELD_MM = 1000.0
LARGEST_LENGTH_MM = 2500.0
LARGEST_EXTENT_L = 1500.0
"""Litres within the grid; at the 1.5 mm of the finest network grid 444 million voxels, 1.7 GiB."""

LARGEST_VOXELS = 2**30
"""4,096 slices of 512 x 512; 4 GiB in HU and half of that as stored."""


def check_plane(size: tuple[int, int], pixel_spacing_mm: tuple[float, float]) -> None:
    """Refuse one slice that is larger than any scan field.

    Raises
    ------
    InputError
        TOO_LARGE, with the figure and its limit.
    """
    if max(size) > LARGEST_SIDE_PIXELS:
        raise _too_large(f"a slice has {size[0]} x {size[1]} pixels, more than {LARGEST_SIDE_PIXELS} along a side")
    field = max(count * step for count, step in zip(size, pixel_spacing_mm, strict=True))
    if field > LARGEST_FIELD_MM:
        raise _too_large(f"a slice is {field:.0f} mm wide, more than {LARGEST_FIELD_MM:.0f} mm")


def check_voxels(count: int) -> None:
    """Refuse a series that holds more voxels than memory is planned for; raises TOO_LARGE."""
    if count > LARGEST_VOXELS:
        raise _too_large(f"the series has more than {LARGEST_VOXELS:,} voxels")


def check_extent(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    """Refuse a grid (z, y, x) that is longer or holds more than any scan of a patient; raises TOO_LARGE."""
    z, y, x = (count * step for count, step in zip(shape, spacing_mm, strict=True))
    if z > LARGEST_LENGTH_MM:
        raise _too_large(f"the series is {z:.0f} mm long, more than {LARGEST_LENGTH_MM:.0f} mm")
    litres = x * y * z / 1e6
    if litres > LARGEST_EXTENT_L:
        raise _too_large(f"the series spans {litres:.0f} L, more than {LARGEST_EXTENT_L:.0f} L")


def _too_large(found: str) -> InputError:
    return InputError(Refusal.TOO_LARGE, f"{found}; check the unit of PixelSpacing and positions, or split the series")
