"""How much the plugin slows down STOW: an Orthanc with it against one without, in interleaved pairs.

Usage: python -m tests.benchmarks.stow_throughput [--pairs 40] [--write] (`make scaling-figures`). With the queue
paused, admission still decides on each series. With a busy worker, the built-in model works on a queue that never ends.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from io import BytesIO

import httpx

from orthanc_plugin.domain.job import JobState
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.phantoms.dicom import encode_phantom
from orthanc_plugin.phantoms.phantom import Phantom, make_phantom
from tests.benchmarks.scaling_page import markdown, write_part
from tests.faults.campaign.cases import started
from tests.faults.campaign.site import Site
from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.servers.orthanc_server import OrthancServer, wait_until

GOALS = {"queue paused": 0.97, "worker busy": 0.80}
BOUNDARY = "stow-throughput"
HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
    "Accept": "application/dicom+json",
}


class RealModel(Site):
    """The site of the campaign with the real service and worker."""

    def __init__(self) -> None:
        super().__init__(section={"Workers": 1, "Rules": [{"Name": "chest", "Radiomics": False, "Locate": ""}]})
        assert self.enrichment is not None
        plain = EnrichedOrthanc()
        assert plain.enrichment is not None
        self.enrichment["Service"] |= {"Python": plain.enrichment["Service"]["Python"]}
        plain.close()


def bodies(phantom: Phantom) -> Iterator[bytes]:
    """STOW requests, each with another series."""
    for number in itertools.count():
        head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        files = []
        for ds in encode_phantom(phantom, uid_seed=f"stow-{number}"):
            ds.save_as(content := BytesIO(), enforce_file_format=True)
            files.append(head + content.getvalue() + b"\r\n")
        yield b"".join(files) + f"--{BOUNDARY}--\r\n".encode()


def store_s(server: OrthancServer, body: bytes) -> float:
    """Seconds of one STOW."""
    account, url = (server.user, server.password), f"{server.dicomweb_url}/studies"
    began = time.monotonic()
    httpx.post(url, content=body, headers=HEADERS, auth=account, timeout=300, trust_env=False).raise_for_status()
    return time.monotonic() - began


def pairs(enriched: EnrichedOrthanc, plain: OrthancServer, count: int, requests: Iterator[bytes]) -> list[float]:
    """Throughput with the plugin over that without, of each pair; who begins alternates."""
    ratios = []
    for number in range(count):
        servers, body = [enriched, plain] if number % 2 else [plain, enriched], next(requests)
        seconds = {server: store_s(server, body) for server in servers}
        ratios.append(seconds[plain] / seconds[enriched])
    return ratios


def measure(what: str, count: int) -> tuple[float, float, float]:
    """Median and quartiles of the ratios."""
    requests = bodies(make_phantom(shape=(56, 96, 96), spacing_mm=(3.0, 3.2, 3.2)))
    with OrthancServer() as plain, started(RealModel()) as (site, queue):
        if what == "queue paused":
            queue.pause(True)
        else:
            _keep_busy(site, queue, count)
        pairs(site, plain, 3, requests)  # warm up
        ratios = sorted(pairs(site, plain, count, requests))
        assert what == "queue paused" or queue.ledger.open_jobs(), "the worker ran out of work"
        return ratios[len(ratios) // 4], statistics.median(ratios), ratios[len(ratios) * 3 // 4]


def _keep_busy(site: Site, queue: JobQueue, count: int) -> None:
    site.send(4 * count)  # a job takes a second on a quiet machine
    wait_until(lambda: queue.ledger.open_jobs(JobState.RUNNING), 120, "a busy worker")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    options = parser.parse_args()
    rows = []
    for what, goal in GOALS.items():
        low, median, high = measure(what, options.pairs)
        rows.append((what, f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{goal:.2f}"))
    text = f"STOW throughput with the plugin over that without it, {options.pairs} interleaved pairs:\n\n"
    text += markdown(("", "median ratio", "middle half", "goal"), rows)
    print(text)
    if options.write:
        write_part("stow", text)


if __name__ == "__main__":
    main()
