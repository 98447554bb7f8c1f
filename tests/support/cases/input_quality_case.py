"""A small series for the report on the input: a slice with metal, and a header that names the chest."""

from __future__ import annotations

from dataclasses import replace

from orthanc_plugin.domain.volume import CtSeries
from tests.support.cases.results_case import small_series


def scan_with_metal() -> CtSeries:
    """Make the small series with metal in one of its twelve slices."""
    series = small_series(BodyPartExamined="CHEST")
    voxels = series.volume.voxels_hu.copy()
    voxels[3, 10:14, 10:14] = 3071
    return replace(series, volume=replace(series.volume, voxels_hu=voxels))
