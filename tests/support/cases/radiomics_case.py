"""Hand-made cases for radiomics reports: every feature that has a code, on any image, for a SEG of any encoding."""

from __future__ import annotations

import math

from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import CardLabel
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.measures import FeatureValue, SegmentFeatures
from orthanc_plugin.domain.plan import SegEncoding, SegSettings
from orthanc_plugin.domain.radiomics_settings import RadiomicsSettings
from orthanc_plugin.radiomics.feature_codes import FEATURES
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr.radiomics import encode_radiomics_sr
from tests.support.cases.results_case import CARD, RADIOMICS_UID, SEG_UID, ellipsoids, provenance_of, small_series

SERIES = small_series()
SETTINGS = RadiomicsSettings(log_sigma_mm=(2.0,), wavelet=True)
FILTERED = "log-sigma-2-0-mm-3D"


def stored_as(encoding: SegEncoding, *absent: CardLabel) -> Dataset:
    """Encode the SEG of the ellipsoids: left lung, right lung, airway, bone, rest of the body, as far as present."""
    return seg.encode_seg(provenance_of(SERIES, SEG_UID), ellipsoids(SERIES, *absent), SegSettings(encoding, body=True))


def report(
    stored: Dataset, features: list[SegmentFeatures], settings: RadiomicsSettings = SETTINGS, library: bool = False
) -> Dataset:
    """Encode the radiomics report of a stored SEG."""
    return encode_radiomics_sr(
        provenance_of(SERIES, RADIOMICS_UID), stored, seg.decode_seg(stored, SERIES, CARD), features,
        title=REPORT_TITLE, settings=settings, image_library=library,
    )  # fmt: skip


def measured(segment: int, image: str = "original") -> SegmentFeatures:
    """Make every feature that has a code, with square roots as values; filtered images have no shape features."""
    coded = [c for c in FEATURES if image == "original" or not c.name.startswith("shape")]
    values = (FeatureValue(c.name, c.concept, c.unit, math.sqrt(n + 2), c.derivation) for n, c in enumerate(coded))
    return SegmentFeatures(segment, tuple(values), image=image)
