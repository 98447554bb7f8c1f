"""What the service and a worker spend while there is nothing to do: `python -m tests.benchmarks.idle [--seconds 60]`.

They run as the plugin starts them, on SQLite, with the settings that a site has without any. Prints JSON: CPU seconds
per second of each process.
"""

from __future__ import annotations

import argparse
import json
import time

from tests.support.cases.enriched import EnrichedOrthanc
from tests.support.servers.orthanc_server import wait_until

SETTLE_S = 10.0
"""The service looks at an empty archive, and the worker has loaded its libraries."""


def idle(seconds: float) -> dict[str, float]:
    """Return CPU seconds per second of service and worker."""
    with EnrichedOrthanc(stable_age_s=60, section={"ReconcileSeconds": 60}) as site:
        site.await_service()
        wait_until(lambda: len(site.children()) == 2, 60, "the worker")
        time.sleep(SETTLE_S)
        service, worker = sorted(site.children(), key=lambda process: process.create_time())
        began, before = time.monotonic(), [process.cpu_times() for process in (service, worker)]
        time.sleep(seconds)
        took = time.monotonic() - began
        spent = {}
        for name, process, was in zip(("service", "worker"), (service, worker), before, strict=True):
            now = process.cpu_times()
            spent[name] = (now.user + now.system - was.user - was.system) / took
        return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    print(json.dumps(idle(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
