"""Texts and rows that version 0.1.0 wrote: today's code reads equal records from them and writes the same bytes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orthanc_plugin.codes import Code
from orthanc_plugin.domain.body import Region
from orthanc_plugin.domain.checks import Check, CheckResult
from orthanc_plugin.domain.job import EnrichJob, JobState, StageOutcome, StageView
from orthanc_plugin.domain.json_record import JsonRecord
from orthanc_plugin.domain.plan import (
    Guard,
    Location,
    Output,
    Plan,
    PlannedModel,
    SegEncoding,
    SegSettings,
    StoredObject,
)
from orthanc_plugin.domain.radiomics_settings import FeatureClass, Interpolation, RadiomicsMode, RadiomicsSettings
from orthanc_plugin.jobs.delivery import Delivery
from orthanc_plugin.jobs.hint import Hint
from orthanc_plugin.jobs.ledger import Decision, Ledger, Verdict
from orthanc_plugin.jobs.record import Summary
from orthanc_plugin.jobs.search import Search
from tests.support.cases.location_case import CHEST, NOWHERE

WRITTEN = Path(__file__).with_name("written_by_0_1_0")

PLAIN = Plan(
    "default", (PlannedModel("chest_structures", "d" * 64),), (Output.SEG, Output.LANDMARKS), "local", ("far",)
)
LOCATED = replace(
    PLAIN,
    location=Location(
        PlannedModel("bpr", "e" * 64), ((Region.CHEST, 0.8), (Region.ABDOMEN, 0.25)), Guard.REFUSE, Guard.FLAG,
        Region.CHEST,
    ),
)  # fmt: skip
CHOSEN = replace(
    LOCATED,
    rule="trial",
    radiomics=RadiomicsSettings(
        RadiomicsMode.PYRADIOMICS, (FeatureClass.SHAPE, FeatureClass.GLCM), 10.0, 32, (0.0, 1.0, 1.0),
        Interpolation.CUBIC, (-1000.0, 400.0), 0.0, True, (1.0, 2.5), True, True,
    ),
    seg=SegSettings(SegEncoding.LABELMAP_RLE, 0.5),
    hold_back=(Check.SIDE, Check.VOLUME),
    image_library=True,
)  # fmt: skip
PLANS = {
    "plain": PLAIN,
    "located": LOCATED,
    "absent": replace(PLAIN, location=Location(absent="no body part regression model is installed")),
    "chosen": CHOSEN,
}
JOBS = {name: EnrichJob("local", "1.2", "1.2.3", "f" * 64, 1, plan) for name, plan in PLANS.items()}

SEG = StoredObject(Output.SEG, "1.2.840.10008.5.1.4.1.1.66.4", "1.2", "2.25.1", "2.25.2", False)
SR = StoredObject(Output.BODY_LANDMARKS, "1.2.840.10008.5.1.4.1.1.88.34", "1.2", "2.25.3", "2.25.4", True)
SIDE = CheckResult(
    Check.SIDE, "chest_structures", 2, "lung_left", False, 0.25, Code("1", "UCUM", "no units"),
    "0.25 of it lies on the left of its partner: Ü",
)  # fmt: skip
GAPS = replace(CHEST, regions={Region.CHEST: (0, 1, 2, 7, 9, 10), Region.HEAD: (11,)})
FINE = replace(GAPS, scores=(None, *(score + 0.00123 for score in CHEST.scores[1:] if score is not None)))
RETRIEVE = StageView("retrieve", 1.5, 80.0, notes=("1 slice is missing", "ü"))
LOCATE = StageView("locate bpr", 0.75, 310.5, "cpu", notes=("a note",), location=CHEST)
LOST = StageView("locate bpr", 0.75, 310.5, "cpu", location=NOWHERE)
SEGMENT = StageView(
    "segment chest_structures", 12.25, 900.0, "cpu", {"lung_left": 2000.125, "heart": 600.0}, ("a note",)
)
HELD = StageView(
    "segment chest_structures", 12.25, 900.0, "cpu", {}, ("held back: side of lung_left: x",), None, (SIDE,), True
)
NOT_COVERED = (JobState.SKIPPED, "not-covered", "chest 0.43 covered, 0.80 wanted")
OUTCOMES = {
    "retrieve": StageOutcome(RETRIEVE),
    "locate": StageOutcome(LOCATE),
    "nowhere": StageOutcome(LOST),
    "fine": StageOutcome(replace(LOST, location=FINE)),
    "segment": StageOutcome(SEGMENT, SEG),
    "held": StageOutcome(HELD),
    "body": StageOutcome(StageView("report body-landmarks", 0.5, 90.0), SR),
    "refused": StageOutcome(StageView("guard bpr", 0.001, 90.0), None, *NOT_COVERED),
    "failed": StageOutcome(
        StageView("measure chest_structures", 0.001, 90.0), None, JobState.FAILED, "failed", "StoreError: 507"
    ),
}
SUMMARIES = {
    "nothing": Summary(),
    "one": Summary((RETRIEVE, LOCATE, SEGMENT), (SEG,)),
    "held": Summary((HELD, LOST), (SR,)),
}
HINTS = {
    "plain": Hint("local", "1.2", "1.2.3"),
    "full": Hint("local", "1.2", "1.2.3", "id-1", True, "CT1", "10.0.0.1", "DicomProtocol", "a", "m"),
}
DELIVERIES = {"two": Delivery("local", "far", (SEG, SR)), "none": Delivery("local", "far", ())}
LOCATIONS = {"chest": CHEST, "nowhere": NOWHERE, "fine": FINE}

TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ROWS = {
    "queued": Decision(
        "local", "1.2", "1.2.3", "f1", 0, "20260101T000000", TIME, Verdict.ENRICH, JobState.QUEUED,
        job_id="j1", rule="default", argument=JOBS["plain"].to_json(),
    ),
    "done": Decision(
        "local", "1.2", "1.2.4", "f2", 2, "", TIME, Verdict.ENRICH, JobState.DONE, "held-back", "held back: x",
        "j2", "f9", "trial", JOBS["chosen"].to_json(), TIME, TIME, SUMMARIES["one"],
    ),
    "skipped": Decision(
        "local", "1.2", "1.2.5", "f3", 0, "", TIME, Verdict.SKIP, JobState.SKIPPED, "too-few-slices",
        "2 slices, 20 are needed", ended_at=TIME,
    ),
}  # fmt: skip


def written(name: str) -> dict[str, str]:
    texts: dict[str, str] = json.loads((WRITTEN / f"{name}.json").read_text())
    return texts


def rounded(record: JsonRecord) -> JsonRecord:
    """Return the record with the rounded scores that its text keeps."""
    if isinstance(record, StageOutcome) and record.stage.location is FINE:
        return replace(record, stage=replace(record.stage, location=GAPS))
    return GAPS if record is FINE else record


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("jobs", JOBS),
        ("outcomes", OUTCOMES),
        ("summaries", SUMMARIES),
        ("hints", HINTS),
        ("deliveries", DELIVERIES),
        ("locations", LOCATIONS),
    ],
)
def test_a_text_is_read_and_written_as_before(name: str, records: dict[str, JsonRecord]) -> None:
    texts = written(name)
    assert texts.keys() == records.keys()
    for key, record in records.items():
        assert type(record).from_json(texts[key]) == rounded(record), key
        assert record.to_json() == texts[key], key


def test_a_plan_keeps_its_text_and_its_digest() -> None:
    plans: dict[str, dict[str, str]] = json.loads((WRITTEN / "plans.json").read_text())
    assert plans.keys() == PLANS.keys()
    for name, plan in PLANS.items():
        read = Plan.from_json(plans[name]["text"])
        assert read == plan
        assert plan.to_json() == plans[name]["text"]
        assert plan.digest == read.digest == plans[name]["digest"]


@pytest.mark.parametrize(
    ("name", "records"), [("earlier_plans", PLANS), ("earlier_outcomes", {"segment": OUTCOMES["segment"]})]
)
def test_a_text_that_lacks_later_fields_is_read_with_their_defaults(name: str, records: dict[str, JsonRecord]) -> None:
    texts: dict[str, dict[str, str]] = json.loads((WRITTEN / f"{name}.json").read_text())
    for record_name, earlier in texts.items():
        for lacks, text in earlier.items():
            assert type(records[record_name]).from_json(text) == records[record_name], lacks


def test_a_row_of_the_ledger_has_the_columns_it_had(tmp_path: Path) -> None:
    rows: dict[str, dict[str, object]] = json.loads((WRITTEN / "rows.json").read_text())
    file = tmp_path / "jobs.db"
    with closing(Ledger(f"sqlite:///{file}")) as ledger:
        with ledger.begin() as connection:
            for row in ROWS.values():
                ledger.add(connection, row)
        assert {row.fingerprint: row for row in ledger.decisions()} == {row.fingerprint: row for row in ROWS.values()}
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        found = {str(row["fingerprint"]): dict(row) for row in connection.execute("SELECT * FROM enrichment_decisions")}
    models = {name: models_of(row) for name, row in ROWS.items()}
    for name, row in ROWS.items():
        del found[row.fingerprint]["id"]
        later = {"priority": "normal", "models": models[name]}  # these columns came later
        assert found[row.fingerprint] == rows[name] | later


def models_of(row: Decision) -> str:
    if not row.argument:
        return ""
    return ",chest_structures,bpr," if EnrichJob.from_json(row.argument).plan.location else ",chest_structures,"


def test_a_table_of_0_1_0_gets_the_later_columns_and_indexes(tmp_path: Path) -> None:
    rows: dict[str, dict[str, object]] = json.loads((WRITTEN / "rows.json").read_text())
    file = tmp_path / "jobs.db"
    with closing(sqlite3.connect(file)) as connection:
        columns = ", ".join(f"{name} TEXT NOT NULL" for name in next(iter(rows.values())))
        connection.execute(f"CREATE TABLE enrichment_decisions (id INTEGER PRIMARY KEY, {columns})")
        for row in rows.values():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO enrichment_decisions ({', '.join(row)}) VALUES ({marks})", [*row.values()])
        connection.commit()
    for _ in range(2):  # the second time there is nothing to add
        with closing(Ledger(f"sqlite:///{file}")) as ledger:
            found = ledger.decisions(Search(model="chest_structures"))
            assert {row.fingerprint for row in found} == {row.fingerprint for row in ROWS.values() if row.argument}
            assert len(ledger.decisions()) == len(ROWS)
    with closing(sqlite3.connect(file)) as connection:
        indexed = {row[1] for row in connection.execute("PRAGMA index_list(enrichment_decisions)")}
    assert {f"ix_enrichment_decisions_{name}" for name in ("study_instance_uid", "rule", "models")} <= indexed
