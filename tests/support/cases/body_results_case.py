"""Hand-made cases for the reports of body part regression: a location that spreads the whole body over any series."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.body import BodyLandmark, BodyLocation, Region
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.results.sr.body_landmarks import encode_body_landmarks_sr
from orthanc_plugin.results.sr.body_regions import encode_body_regions_sr
from orthanc_plugin.results.sr.viewer_landmarks import encode_viewer_landmarks_sr
from tests.support.cases.bpr_case import SLOPE, TABLE
from tests.support.cases.results_case import CARD, provenance_of

UIDS = {Output.BODY_LANDMARKS: "2.25.2001", Output.BODY_REGIONS: "2.25.2002", Output.VIEWER_LANDMARKS: "2.25.2003"}
ENCODERS: dict[Output, Callable[..., Dataset]] = {
    Output.BODY_LANDMARKS: encode_body_landmarks_sr,
    Output.BODY_REGIONS: encode_body_regions_sr,
    Output.VIEWER_LANDMARKS: encode_viewer_landmarks_sr,
}
PARTS = {
    Region.LEGS: (0.0, 0.1),
    Region.PELVIS: (0.1, 0.3),
    Region.ABDOMEN: (0.25, 0.5),
    Region.CHEST: (0.4, 0.7),
    Region.SHOULDER_NECK: (0.65, 0.8),
    Region.HEAD: (0.75, 1.0),
}
"""Range of each region as a share of the slices."""


def whole_body(series: CtSeries) -> BodyLocation:
    """Place all landmarks and regions evenly between the second and the second last slice."""
    slices = len(series.headers)
    z_mm = tuple(float(series.volume.affine[2] @ (0, 0, index, 1)) for index in range(slices))
    levels = np.linspace(z_mm[1] + 0.25, z_mm[-2] - 0.25, len(TABLE))
    landmarks = tuple(
        BodyLandmark(key, int(np.abs(np.array(z_mm) - level).argmin()), float(level), sd / SLOPE)
        for (key, (_, sd)), level in zip(TABLE.items(), levels, strict=True)
    )
    regions = {
        region: tuple(range(int(first * slices), int(last * slices)))
        for region, (first, last) in PARTS.items()
        if int(first * slices) < int(last * slices)
    }
    scores = tuple(float(score) for score in np.linspace(-10, 110, slices))
    return BodyLocation(
        raw_scores=scores,
        scores=scores,
        z_mm=z_mm,
        landmarks=landmarks,
        regions=regions,
        coverage=dict.fromkeys(Region, 1.0) | {Region.LEGS: 1 / 3},
        slope_per_mm=0.12,
        slope_ratio=0.12 / SLOPE,
        expected_spacing_mm=5.0 * 0.12 / SLOPE,
        valid_spacing=True,
        reversed=False,
        tag="PELVIS-ABDOMEN-CHEST-NECK-HEAD",
    )


def body_report(kind: Output, series: CtSeries, location: BodyLocation, *notes: str, card: ModelCard = CARD) -> Dataset:
    """Encode one report of a location."""
    return ENCODERS[kind](provenance_of(series, UIDS[kind], card), location, title=REPORT_TITLE, notes=notes)


def items(ds: Dataset) -> Iterator[Dataset]:
    """Yield all content items, depth first."""
    yield ds
    for child in ds.get("ContentSequence", ()):
        yield from items(child)


def values(ds: Dataset, code: str) -> list[Dataset]:
    """List the content items of a concept."""
    return [item for item in items(ds) if item.ConceptNameCodeSequence[0].CodeValue == code]
