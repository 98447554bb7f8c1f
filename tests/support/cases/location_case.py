"""Locations made by hand: a chest whose numbers are known, and a scan of which nothing can be said."""

from __future__ import annotations

from orthanc_plugin.domain.body import BodyLandmark, BodyLocation, Region

CHEST = BodyLocation(
    raw_scores=(None, *(40.0 + 3 * index for index in range(1, 12))),
    scores=(None, *(41.0 + 3 * index for index in range(1, 12))),
    z_mm=tuple(-100.0 + 25 * index for index in range(12)),
    landmarks=(BodyLandmark("Th12", 1, -73.74, 19.4), BodyLandmark("Th8", 5, 31.2, 20.0)),
    regions={Region.ABDOMEN: (1, 2, 3, 4, 5), Region.CHEST: tuple(range(1, 12))},
    coverage={Region.ABDOMEN: 0.41, Region.CHEST: 0.97, Region.HEAD: 0.0},
    slope_per_mm=0.12,
    slope_ratio=1.02,
    expected_spacing_mm=25.4,
    valid_spacing=True,
    reversed=False,
    tag="CHEST",
    notes=("1 of 12 slices show no body and have no score",),
)

NOWHERE = BodyLocation(
    raw_scores=(None, 3.0, 88.0),
    scores=(None, None, None),
    z_mm=(0.0, 5.0, 10.0),
    landmarks=(),
    regions={},
    coverage={},
    slope_per_mm=None,
    slope_ratio=None,
    expected_spacing_mm=None,
    valid_spacing=False,
    reversed=False,
    tag="NONE",
    reason="2 slices show a body; 5 are needed",
)
