"""Seconds until OHIF shows a real CT: through the front door, and through nginx before Orthanc itself, in turns.

Usage: python -m tests.benchmarks.ohif_opening [--pairs 5] (`make bench-ohif`, on a quiet machine). Each opening has a
fresh browser profile, so nothing is cached. The goal: through the front door it takes at most 10 % longer.
The exit code is 1 if it takes longer.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page
from pydicom import dcmread

from orthanc_plugin.service.ohif_package import default_directory
from orthanc_plugin.service.viewer import viewer_link
from tests.benchmarks.front_door import nginx
from tests.browser.chromium import open_browser
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.cases.realct import ROOT, real_ct

GOAL = 1.10
PATIENCE_MS = 300_000
# The package holds compressed files; nginx sends them as they are, like the service.
_OHIF = """
    root {dist}; gzip_static always; gunzip on;
    location = /app-config.js {{ gzip_static off; alias {configuration}; }}
    location / {{ error_page 404 =200 /index.html; }}
"""
_FIRST = """() => { try {
  return cornerstone.getRenderingEngines().flatMap((engine) => engine.getViewports())
    .some((viewport) => viewport.getImageData?.());
} catch { return false; } }"""
_ALL = """count => { try {
  const viewports = cornerstone.getRenderingEngines().flatMap((engine) => engine.getViewports());
  const ids = viewports.flatMap((viewport) => viewport.getImageIds?.() ?? []);
  return ids.length >= count && ids.every((id) => cornerstone.cache.isLoaded(id));
} catch { return false; } }"""


def opening(url: str, study: str, count: int) -> tuple[float, float]:
    """Seconds until the first slice is drawn, and until all slices are in the memory of a new browser."""
    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder) / "profile") as browser:
        page: Page = browser.new_page()
        began = time.monotonic()
        page.goto(f"{url}{viewer_link('', study)}", wait_until="domcontentloaded")
        page.wait_for_function(_FIRST, timeout=PATIENCE_MS)
        first = time.monotonic() - began
        page.wait_for_function(_ALL, arg=count, timeout=PATIENCE_MS)
        return first, time.monotonic() - began


def measure(pairs: int) -> int:
    """Measure, print medians and ratios; return the exit code."""
    files = files_of(real_ct("lidc_0314_chest/dicom"))
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    configuration = ROOT / "orthanc_plugin" / "service" / "ohif" / "app-config.js"
    with EnrichedOrthanc(section={"Workers": 0}, stable_age_s=3600) as site:
        login = f"{site.user}:{site.password}"
        header = f'proxy_set_header Authorization "Basic {base64.b64encode(login.encode()).decode()}";'
        ohif = _OHIF.format(dist=default_directory() / "dist", configuration=configuration)
        site.await_service()
        for start in range(0, len(files), 50):
            site.stow(files[start : start + 50])
        with nginx(site.url, header, ohif) as port:
            ways = {"direct": f"http://127.0.0.1:{port}", "front door": site.service_url.replace("//", f"//{login}@")}
            seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for turn in range(pairs):
                for name in sorted(ways, reverse=bool(turn % 2)):
                    seconds[name].append(opening(ways[name], study, len(files)))
                    print(f"{name}: {seconds[name][-1][0]:.1f} s, {seconds[name][-1][1]:.1f} s", flush=True)
    return _report(pairs, len(files), seconds)


def _report(pairs: int, count: int, seconds: dict[str, list[tuple[float, float]]]) -> int:
    print(f"load {os.getloadavg()[0]:.1f}, {count} slices, median of {pairs} pairs (least to most), seconds")
    ratios = []
    for what, place in (("first slice", 0), ("all slices", 1)):
        found = {name: [pair[place] for pair in pairs_of] for name, pairs_of in seconds.items()}
        for name, values in found.items():
            print(f"{what:<11} {name:<10} {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        ratios.append(statistics.median(a / b for a, b in zip(found["front door"], found["direct"], strict=True)))
        print(f"{what}: front door / direct {ratios[-1]:.2f}, median of the pairs (goal: at most {GOAL})")
    return int(ratios[-1] > GOAL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    sys.exit(measure(parser.parse_args().pairs))
