"""Where in the body a series lies, the reports on it, and the slices that organ models see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from pydicom.dataset import Dataset

from orthanc_plugin import identity
from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.domain.body import BodyLocation, Region
from orthanc_plugin.domain.plan import Output
from orthanc_plugin.domain.volume import CtSeries, Volume
from orthanc_plugin.errors import InputError
from orthanc_plugin.pipeline.context import Context, ReportResult, reference
from orthanc_plugin.results.sr.body_landmarks import coded, encode_body_landmarks_sr
from orthanc_plugin.results.sr.body_regions import encode_body_regions_sr
from orthanc_plugin.results.sr.viewer_landmarks import encode_viewer_landmarks_sr

CROP_MARGIN_MM = 30.0
"""Margin around a region: organs reach over its ends, and scores err by about 10 mm."""

_BODY_ENCODERS: Mapping[Output, Callable[..., Dataset]] = {
    Output.BODY_LANDMARKS: encode_body_landmarks_sr,
    Output.BODY_REGIONS: encode_body_regions_sr,
    Output.VIEWER_LANDMARKS: encode_viewer_landmarks_sr,
}


class Locator(Protocol):
    """A loaded body part regression."""

    @property
    def card(self) -> ModelCard:
        """The model that runs."""

    @property
    def provider(self) -> str:
        """The execution provider that the model really runs on."""

    def locate(self, volume: Volume) -> BodyLocation:
        """Find where in the body a volume lies; raise InputError if its slices are not axial."""


@dataclass(frozen=True, slots=True)
class LocateResult:
    """Where in the body a series lies; a location that is not known has a `reason`."""

    location: BodyLocation
    provider: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crop:
    """The slices of a series that a model sees.

    first, last: indices of the slices at the ends, counted from 0.
    volume: view of these slices.
    settings: settings for the SEG UID, so that a cropped result never replaces an uncropped one.
    why: what these slices are, for the note that is stored with the SEG.
    """

    first: int
    last: int
    volume: Volume
    settings: str
    why: str

    @property
    def note(self) -> str:
        """The note on the crop that is stored with the SEG."""
        return f"only slices {self.first + 1} to {self.last + 1}, counted from the feet, were analysed: {self.why}"


def locate(series: CtSeries, locator: Locator) -> LocateResult:
    """Find the place of a series in the body.

    Slices that are not axial are no error here: organ models may accept them, and guards refuse them.
    """
    try:
        location = locator.locate(series.volume)
    except InputError as error:
        location = BodyLocation(
            (), (), (), (), {}, {}, None, None, None,
            valid_spacing=False, reversed=False, tag="NONE", reason=str(error),
        )  # fmt: skip
    reason = (f"no valid region: {location.reason}",) if location.reason else ()
    return LocateResult(location, locator.provider, (*reason, *location.notes))


def report_location(
    kind: Output, series: CtSeries, card: ModelCard, location: BodyLocation, provider: str, context: Context
) -> ReportResult:
    """Store landmarks or regions of the body as SR; store nothing if none is known.

    Parameters
    ----------
    kind : Output
        BODY_LANDMARKS, BODY_REGIONS or VIEWER_LANDMARKS.
    series, context
        As for all stages.
    card : ModelCard
        Card of the body part regression.
    location : BodyLocation
        What it found.
    provider : str
        Execution provider that it ran on.
    """
    settings = "; ".join(filter(None, (context.report_settings, series.variant)))
    uid = identity.body_sr_uid(context.fingerprint, card.digest, kind, settings)
    if (there := context.find(series, uid)) is not None:
        return ReportResult(reference(there, kind, True), ())
    if not (location.regions if kind is Output.BODY_REGIONS else coded(location.landmarks)[0]):
        none = f"{kind}: nothing to report lies in the scan"
        return ReportResult(None, (f"no valid region: {location.reason}" if location.reason else none,))
    encoded = _BODY_ENCODERS[kind](
        context.provenance(series, card, uid, provider), location,
        title=context.title, notes=(*series.notes, *series.marks, *location.notes),
    )  # fmt: skip
    stored, adopted = context.keep(series, encoded)
    return ReportResult(reference(stored, kind, adopted), ())


def crop_to(region: Region, volume: Volume, location: BodyLocation, located_by: str) -> Crop | None:
    """Cut out the slices of a region and a margin; return None if the region is not known to be in the scan."""
    slices = location.regions.get(region)
    if not slices:
        return None
    margin = math.ceil(CROP_MARGIN_MM / volume.spacing_mm[0])
    first, last = max(0, min(slices) - margin), min(len(volume.voxels_hu) - 1, max(slices) + margin)
    return Crop(
        first, last, slices_of(volume, first, last),
        settings=f"cropped to {region} and {CROP_MARGIN_MM:g} mm by {located_by}",
        why=f"the {region} as located by body part regression ({located_by[:12]}),"
        f" with a margin of {CROP_MARGIN_MM:g} mm",
    )  # fmt: skip


def slices_of(volume: Volume, first: int, last: int) -> Volume:
    """Return a view of the slices from `first` to `last`, both included, where they lie in the patient."""
    affine = volume.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    return replace(volume, voxels_hu=volume.voxels_hu[first : last + 1], affine=affine)
