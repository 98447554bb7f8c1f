"""The log of a worker as JSON: every line is an object, and those of a job carry its ids."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from orthanc_plugin.jobs.queue import JobQueue
from tests.faults.stub_site import StubSite, enqueue
from tests.support.servers.orthanc_server import wait_until

JOB = "5a" * 32


def test_every_line_of_a_job_carries_its_ids(tmp_path: Path) -> None:
    place = StubSite(tmp_path, f"sqlite:///{tmp_path}/jobs.db", fails=True, log_format="json")
    with closing(JobQueue(place.database)) as queue, place.worker("a"):
        enqueue(queue, 1, job_id=JOB)
        wait_until(lambda: f"job {JOB}: " in (tmp_path / "a.log").read_text(), 60, "the last line of the job")
    lines: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "a.log").read_text().splitlines()]
    of_job = [line for line in lines if line.get("job") == JOB]
    assert [line["message"].split(":")[0] for line in of_job] == ["stage measure stub", f"job {JOB}"]
    assert {(line["series"], line["archive"]) for line in of_job} == {("2.25.200", "local")}
    assert any(line["message"].endswith("takes jobs") and "job" not in line for line in lines)
