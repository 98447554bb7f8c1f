"""An idle worker polls little: each poll of a queue takes about a millisecond of a core."""

from __future__ import annotations

import pytest

from orthanc_plugin.jobs.engine import DELIVER, DELIVER_TO, ENRICH, NOTIFY
from tests.support.cases.results_place import Place


@pytest.fixture(autouse=True)
def _impatient_polls() -> None:
    """Leave the intervals as they are, unlike in other tests."""


def test_queues_are_looked_at_twice_a_second_at_most(place: Place) -> None:
    queues = [place.queue._client.retrieve_queue(name) for name in (ENRICH, DELIVER, DELIVER_TO, NOTIFY)]
    intervals_s = [queue.polling_interval_sec for queue in queues if queue is not None]
    assert len(intervals_s) == 4
    assert max(intervals_s[0], *intervals_s[2:]) <= 2  # a person sees that something goes on
    assert sum(1 / interval_s for interval_s in intervals_s) <= 2.1
