"""The metrics: their numbers, that they hold no identifiers, and that alerts, dashboard and docs name what exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.service.metrics import PATH, _of_gpus
from tests.support.servers.front_door import FrontDoor, enqueue, finish, front_door, skipped

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FrontDoor]:
    with front_door(tmp_path) as door:
        yield door


def read(door: FrontDoor) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    answer = door.ask(PATH)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_stranger_gets_no_metrics(door: FrontDoor) -> None:
    assert door.ask(PATH, "GET", None).status_code == 401


def test_jobs_that_end_are_counted_once_with_the_seconds_of_their_stages(door: FrontDoor) -> None:
    finish(door.queue, enqueue(door.queue, "1.2.1"))
    finish(door.queue, enqueue(door.queue, "1.2.2"), JobState.FAILED, detail="StoreError: archive local refused")
    door.queue.enqueue(skipped("1.2.3"))
    enqueue(door.queue, "1.2.4")
    for _ in range(2):
        found = read(door)
        assert found["enrichment_jobs_ended_total", "done"] == 1
        assert found["enrichment_jobs_ended_total", "failed"] == 1
        assert found["enrichment_stage_seconds_count", "segment"] == 2
    assert found["enrichment_jobs", "queued"] == 1
    assert found["enrichment_jobs_failed", "StoreError"] == 1
    assert found["enrichment_skipped", "too-few-slices"] == 1
    assert found["enrichment_queue_oldest_seconds",] > 0
    assert found["enrichment_workers_alive",] == 0
    assert found["enrichment_archive_seconds", "local"] > 0


def test_jobs_that_ended_before_the_service_started_are_not_counted(tmp_path: Path) -> None:
    with front_door(tmp_path) as first:
        finish(first.queue, enqueue(first.queue, "1.2.1"))
    with front_door(tmp_path) as second:
        assert ("enrichment_jobs_ended_total", "done") not in read(second)


def test_an_error_that_is_not_ours_is_not_quoted(door: FrontDoor) -> None:
    finish(door.queue, enqueue(door.queue, "1.2.1"), JobState.FAILED, detail="DOE^JANE: not a number")
    text = door.ask(PATH).text
    assert "DOE" not in text
    assert not re.search(r"1\.2\.\d", text), "a UID"
    assert 'enrichment_jobs_failed{error="other"} 1.0' in text


def test_gpus_as_the_driver_tells_them() -> None:
    lines = ("NVIDIA H200, 1024 MiB, 143771 MiB, 12 %", "GPU, of two, [N/A], 100 MiB, [Not Supported]", "nonsense")
    rows = {(f.name, s.labels["name"]): s.value for f in _of_gpus(lines) for s in f.samples}
    assert rows == {
        ("enrichment_gpu_memory_used_bytes", "NVIDIA H200"): 2**30,
        ("enrichment_gpu_memory_bytes", "NVIDIA H200"): 143771 * 2**20,
        ("enrichment_gpu_busy_ratio", "NVIDIA H200"): 0.12,
        ("enrichment_gpu_memory_bytes", "GPU, of two"): 100 * 2**20,
    }


def names(door: FrontDoor) -> set[str]:
    """Every metric that Prometheus would know, by its type lines, with what a histogram adds."""
    kinds = dict(re.findall(r"^# TYPE (enrichment_\w+) (\w+)$", door.ask(PATH).text, re.MULTILINE))
    created = {name for name in kinds if name.endswith("_created")}
    return set(kinds) - created


def test_every_metric_is_documented_and_every_documented_one_exists(door: FrontDoor) -> None:
    finish(door.queue, enqueue(door.queue, "1.2.1"))
    page = (ROOT / "docs" / "operations" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(enrichment_\w+)", page, re.MULTILINE)) == names(door)


def test_alerts_and_dashboard_name_metrics_that_exist(door: FrontDoor) -> None:
    finish(door.queue, enqueue(door.queue, "1.2.1"))
    dashboard = json.loads((DOCKER / "grafana" / "enrichment.json").read_text(encoding="utf-8"))
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts.append((DOCKER / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    used = {re.sub("_bucket$", "", name) for text in texts for name in re.findall(r"\benrichment_\w+", text)}
    assert len(used) > 15
    assert used <= names(door)


def promtool() -> str:
    """Return the program; Debian's package `prometheus` brings it."""
    found = shutil.which("promtool")
    if found is None:
        assert "CI" not in os.environ, "scripts/install-system prometheus"
        pytest.skip("promtool is not installed")
    return found


@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml"),
              ("check", "config", "--syntax-only", "prometheus.yml")],
)  # fmt: skip
def test_promtool_accepts_the_rules_and_their_tests(words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool(), *words], cwd=DOCKER / "prometheus", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
