"""Hand-made cases for the report of quality checks: two models on one small series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.codes import REPORT_TITLE
from orthanc_plugin.domain.checks import CheckResult
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.volume import CtSeries
from orthanc_plugin.quality.agreement import check_agreement
from orthanc_plugin.quality.masks import check_masks
from orthanc_plugin.results import seg
from orthanc_plugin.results.sr.checks import encode_checks_sr
from tests.support.cases.results_case import CARD, ellipsoids, provenance_of

CHECKS_UID = "2.25.1004"
OTHER = replace(CARD, name="other_ellipsoids", version="2.0.0", digest="cd" * 32)
SEG_UIDS = {CARD.name: "2.25.1001", OTHER.name: "2.25.1005"}


@dataclass(frozen=True)
class Checked:
    """One model's SEG and masks, as stored."""

    card: ModelCard
    seg: Dataset
    kept: Segmentation


def stored(series: CtSeries, card: ModelCard = CARD) -> Checked:
    """Store what a model found, and read it back."""
    found, uid = ellipsoids(series), SEG_UIDS[card.name]
    ds = seg.encode_seg(provenance_of(series, uid, card), found)
    return Checked(card, ds, seg.decode_seg(ds, series, card))


def results_of(series: CtSeries, models: Sequence[Checked]) -> list[CheckResult]:
    """Check each model, then across them."""
    alone = [result for model in models for result in check_masks(series.volume, model.kept, model.card)]
    return [*alone, *check_agreement([(model.card, model.kept) for model in models])]


def checks_report(
    series: CtSeries, models: Sequence[Checked], results: Sequence[CheckResult] | None = None, *notes: str
) -> Dataset:
    """Encode the report of all models."""
    return encode_checks_sr(
        [provenance_of(series, CHECKS_UID, model.card) for model in models], [model.seg for model in models],
        results_of(series, models) if results is None else results, title=REPORT_TITLE, notes=notes,
    )  # fmt: skip
