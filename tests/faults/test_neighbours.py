"""Jobs of two workers overlap: the second begins while the first runs."""

from __future__ import annotations

from orthanc_plugin.domain.job import JobState
from tests.faults.campaign.cases import started
from tests.faults.campaign.site import Site
from tests.support.servers.orthanc_server import wait_until

SERIES = 2


def test_two_series_that_wait_are_enriched_at_the_same_time(orthanc_installed: None) -> None:
    with started(Site(seconds=5.0)) as (site, queue):
        queue.pause(True)
        site.send(SERIES)
        wait_until(lambda: len(queue.ledger.open_jobs()) == SERIES, 120, "the decisions")
        queue.pause(False)
        site.await_done(queue, 180)
        rows = queue.ledger.decisions()
        assert [row.state for row in rows] == [JobState.DONE] * SERIES
        begins = [row.started_at for row in rows if row.started_at is not None]
        ends = [row.ended_at for row in rows if row.ended_at is not None]
        assert max(begins) < min(ends)
