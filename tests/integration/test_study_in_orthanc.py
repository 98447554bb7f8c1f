"""Four series of one study in a real Orthanc with plugin, service and worker: the best is enriched, three say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orthanc_plugin.phantoms.dicom import write_instances
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.cases.four_series import BEST_RULE, STUDY, STUDY_SERIES, four_series_of


@pytest.fixture
def server(orthanc_installed: None) -> Iterator[EnrichedOrthanc]:
    with EnrichedOrthanc(stable_age_s=2, section={"Rules": [BEST_RULE]}) as orthanc:
        orthanc.await_service()
        yield orthanc


def test_one_series_is_enriched_and_three_are_skipped_with_reasons(server: EnrichedOrthanc, tmp_path: Path) -> None:
    study = four_series_of(small_chest())
    for name in ("scout", "thick", "sharp-thin", "soft-thin"):
        server.stow(write_instances(tmp_path / name, study[name]))
    rows: dict[str, dict[str, Any]] = {name: server.await_final(uid) for name, uid in STUDY_SERIES.items()}
    assert {name: (row["state"], row["reason"]) for name, row in rows.items()} == {
        "soft-thin": ("done", ""),
        "sharp-thin": ("skipped", "better-series"),
        "thick": ("skipped", "better-series"),
        "scout": ("skipped", "too-few-slices"),
    }
    for name in ("sharp-thin", "thick"):
        assert STUDY_SERIES["soft-thin"] in rows[name]["detail"]
    told = {
        name: server.api(f"inspect?study_instance_uid={STUDY}&series_instance_uid={STUDY_SERIES[name]}")
        for name in study
    }
    assert {name: told[name]["reason"] for name in study} == {name: row["reason"] for name, row in rows.items()}
    (seg,) = server.results(STUDY)
    (referenced,) = seg.ReferencedSeriesSequence
    assert (seg.Modality, referenced.SeriesInstanceUID) == ("SEG", STUDY_SERIES["soft-thin"])
