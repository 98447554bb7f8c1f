"""Identity as house rules fix it: what enters a fingerprint, a job id and a UID, and values that must never change."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from orthanc_plugin import identity
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.checks import Check
from orthanc_plugin.domain.plan import (
    BODY_OUTPUTS,
    ContourStyle,
    Guard,
    Location,
    Output,
    Plan,
    PlannedModel,
    SegEncoding,
    SegSettings,
)
from orthanc_plugin.domain.radiomics_settings import FeatureClass, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.identity import SeriesIdentity, digest

SERIES = SeriesIdentity("P1", "1.2", "1.2.3", ("1.2.3.1", "1.2.3.2"), ("1.2.9",))
PLAN = Plan("default", (PlannedModel("chest_structures", "d" * 64),), (Output.SEG, Output.LANDMARKS), "local", ("far",))


def test_order_of_instances_and_frames_of_reference_does_not_matter() -> None:
    shuffled = replace(SERIES, sop_instance_uids=("1.2.3.2", "1.2.3.1"), frame_of_reference_uids=("1.2.9", "1.2.9"))
    assert identity.fingerprint(shuffled, 0) == identity.fingerprint(SERIES, 0)


@pytest.mark.parametrize(
    "other",
    [
        replace(SERIES, patient_id="P2"),
        replace(SERIES, study_instance_uid="1.3"),
        replace(SERIES, series_instance_uid="1.2.4"),
        replace(SERIES, sop_instance_uids=("1.2.3.1",)),
        replace(SERIES, frame_of_reference_uids=("1.2.9", "1.2.10")),
    ],
)
def test_each_part_of_a_series_makes_another_fingerprint(other: SeriesIdentity) -> None:
    assert identity.fingerprint(other, 0) != identity.fingerprint(SERIES, 0)


def test_a_generation_is_another_fingerprint() -> None:
    assert len({identity.fingerprint(SERIES, generation) for generation in range(3)}) == 3


def test_parts_never_run_into_one_another() -> None:
    assert identity.digest("ab", "c") != identity.digest("a", "bc")
    assert identity.digest(["ab", "c"]) != identity.digest(["a", "bc"])
    assert identity.digest("a", ["b"]) != identity.digest("a", "b")


def test_archive_content_and_plan_make_the_job() -> None:
    jobs = [("local", "f", "p"), ("far", "f", "p"), ("local", "g", "p"), ("local", "f", "q")]
    assert len({identity.job_id(*job) for job in jobs}) == len(jobs)


def test_a_plan_is_what_is_done_and_not_its_rules_name() -> None:
    assert replace(PLAN, rule="renamed").digest == PLAN.digest
    others = (
        replace(PLAN, models=(PlannedModel("chest_structures", "e" * 64),)),
        replace(PLAN, outputs=(Output.SEG,)),
        replace(PLAN, home_archive="far"),
        replace(PLAN, destinations=()),
    )
    assert len({plan.digest for plan in (PLAN, *others)}) == 1 + len(others)


def test_a_plan_survives_its_way_through_the_database() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN


def test_a_plan_that_locates_nothing_keeps_the_digest_it_had_before_location_came() -> None:
    assert PLAN.digest == "2e3d0d2e8ed81bfe8af030ae79bb8c0ed49735b4ccce409eb373ce8542ee2cc2"
    assert replace(PLAN, location=Location(absent="no model")).digest == PLAN.digest


def test_a_plan_of_defaults_keeps_the_digest_it_had_before_they_could_be_chosen() -> None:
    before = {
        "models": [{"name": "chest_structures", "digest": "d" * 64}],
        "outputs": ["seg", "landmarks"],
        "home_archive": "local",
        "destinations": ["far"],
    }
    assert PLAN.digest == digest(json.dumps(before, sort_keys=True))


def test_how_results_are_made_is_part_of_the_plan_and_survives_its_way_through_the_database() -> None:
    radiomics = RadiomicsSettings(
        RadiomicsMode.PYRADIOMICS, (FeatureClass.SHAPE, FeatureClass.GLCM), 10.0, 32, (0.0, 1.0, 1.0),
        Interpolation.CUBIC, (-1000.0, 400.0), 0.0, True, (1.0, 2.5), True, True,
    )  # fmt: skip
    changes = (
        {"radiomics": radiomics},
        {"seg": SegSettings(SegEncoding.LABELMAP_RLE, 0.5)},
        {"hold_back": (Check.SIDE, Check.VOLUME)},
        {"image_library": True},
        {"contours": ContourStyle.SEPARATE},
        {"seg": SegSettings(body=True)},
    )
    plans = [PLAN, *(replace(PLAN, **change) for change in changes)]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert [Plan.from_json(plan.to_json()) for plan in plans] == plans


def test_a_plan_queued_before_results_could_be_chosen_is_read_with_defaults() -> None:
    raw = json.loads(PLAN.to_json())
    for later in ("radiomics", "seg", "hold_back", "image_library"):
        del raw[later]
    assert Plan.from_json(json.dumps(raw)) == PLAN


def test_each_part_of_a_location_makes_another_plan() -> None:
    located = Location(PlannedModel("bpr", "e" * 64))
    others = (
        replace(located, model=PlannedModel("bpr", "f" * 64)),
        replace(located, min_coverage=((Region.CHEST, 0.8),)),
        replace(located, on_reversed=Guard.REFUSE),
        replace(located, on_invalid_spacing=Guard.REFUSE),
        replace(located, crop=Region.CHEST),
    )
    plans = [PLAN, *(replace(PLAN, location=location) for location in (located, *others))]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert [Plan.from_json(plan.to_json()) for plan in plans] == plans


def test_a_plan_written_before_location_came_is_read() -> None:
    raw = json.loads(PLAN.to_json())
    del raw["location"]
    assert Plan.from_json(json.dumps(raw)) == PLAN


def test_uids_are_derived_valid_and_of_their_own() -> None:
    seg = identity.seg_uid("f", "m", "s")
    uids = [
        seg, identity.seg_uid("g", "m", "s"), identity.seg_uid("f", "n", "s"), identity.seg_uid("f", "m", "t"),
        identity.sr_uid(seg, Output.RADIOMICS, "s"), identity.sr_uid(seg, Output.LANDMARKS, "s"),
        identity.sr_uid(seg, Output.RADIOMICS, "t"), identity.series_uid(seg), identity.tracking_uid(seg, "1"),
        identity.tracking_uid(seg, "2"), identity.frame_of_reference_uid(SERIES),
        identity.dimension_organization_uid(seg), identity.device_uid("m"),
        *(identity.body_sr_uid("f", "m", kind, "s") for kind in BODY_OUTPUTS),
        identity.body_sr_uid("g", "m", Output.BODY_REGIONS, "s"),
        identity.body_sr_uid("f", "n", Output.BODY_REGIONS, "s"),
        identity.body_sr_uid("f", "m", Output.BODY_REGIONS, "t"),
    ]  # fmt: skip
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid) for uid in uids)
    assert identity.seg_uid("f", "m", "s") == seg


def test_another_results_version_is_another_object(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity.seg_uid("f", "m", "s"), identity.sr_uid("2.25.1", "radiomics", "s")
    monkeypatch.setattr(identity, "RESULTS_VERSION", identity.RESULTS_VERSION + 1)
    after = identity.seg_uid("f", "m", "s"), identity.sr_uid("2.25.1", "radiomics", "s")
    assert not set(before) & set(after)


def test_values_never_change() -> None:
    """Archives hold objects under these UIDs, databases jobs under these ids: a change would make all of them anew."""
    assert identity.fingerprint(SERIES, 0) == "19cbaaed5d93ebfad41186678fba43dd88071cbbcbe94921a3b4943a7e76717a"
    assert (
        identity.job_id("local", "f", PLAN.digest) == "e8c102cc0eec532d827b485623d39d957f8c8e5ea62f6b9a78727576be71ff10"
    )
    assert identity._uid("seg", "f", "m", "s", "1") == "2.25.3858250745945454027535785515507213758"
    assert identity.series_uid("2.25.1") == "2.25.25169658888438526151489922538787569554"
