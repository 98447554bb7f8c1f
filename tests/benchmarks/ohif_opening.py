"""Seconds until OHIF shows a real CT: through the front door, and through nginx before Orthanc itself, in turns.

Usage: python -m tests.benchmarks.ohif_opening [--pairs 5] (`make bench-ohif`, on a quiet machine). Each opening has a
fresh browser profile, so nothing is cached. The goal: through the front door it takes at most 10 % longer (median of
the ratios of all pairs).

It ends within 8 minutes: an opening that takes too long is given up and has a row of its own, and no pair begins that
might not end in time. The exit code is 1 if the goal is not reached, or an opening did not end.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as TooLate
from pydicom import dcmread

from orthanc_plugin.service.ohif_package import default_directory
from orthanc_plugin.service.viewer import viewer_link
from tests.benchmarks.front_door import nginx
from tests.browser.chromium import open_browser
from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.cases.realct import ROOT, real_ct

GOAL = 1.10
OPENING_S, ALL_S = 75.0, 400.0
"""Limits of one opening and of all; the start of the servers and the sending of the CT come before."""
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
_LOADED = """() => { try {
  const viewports = cornerstone.getRenderingEngines().flatMap((engine) => engine.getViewports());
  const ids = viewports.flatMap((viewport) => viewport.getImageIds?.() ?? []);
  return ids.filter((id) => cornerstone.cache.isLoaded(id)).length;
} catch { return 0; } }"""


@dataclass(frozen=True)
class Opening:
    """One opening. first_s: until the first slice is drawn; all_s: until all are in memory; None if it came to no end.

    loaded: slices in memory at the end.
    """

    first_s: float | None
    all_s: float | None
    loaded: int

    def __str__(self) -> str:
        """Describe it in a row."""
        first = "no slice was drawn" if self.first_s is None else f"first slice {self.first_s:.1f} s"
        if self.all_s is None:
            return f"did not end in {OPENING_S:.0f} s: {first}, {self.loaded} slices in memory"
        return f"{first}, all {self.loaded} slices {self.all_s:.1f} s"


def opening(url: str, login: str, study: str, count: int) -> Opening:
    """Open a study in a new browser, which has visited an address before to log in, if there is one.

    OHIF's own address must hold no password: browsers refuse what the page then asks for.
    """
    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder) / "profile") as browser:
        page: Page = browser.new_page()
        page.goto(login or "about:blank")
        began = time.monotonic()

        def seconds(reached: str) -> float | None:
            try:
                page.wait_for_function(
                    reached, arg=count, timeout=max(1.0, OPENING_S - (time.monotonic() - began)) * 1e3
                )
            except TooLate:
                return None
            return time.monotonic() - began

        try:
            page.goto(f"{url}{viewer_link('', study)}", wait_until="domcontentloaded", timeout=OPENING_S * 1e3)
        except TooLate:
            return Opening(None, None, 0)
        first = seconds(_FIRST)
        last = None if first is None else seconds(f"count => ({_LOADED})() >= count")
        return Opening(first, last, int(page.evaluate(_LOADED)))


def measure(pairs: int) -> int:
    """Measure, print medians and ratios; return the exit code."""
    files = files_of(real_ct("lidc_0314_chest/dicom"))
    study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    configuration = ROOT / "orthanc_plugin" / "service" / "ohif" / "app-config.js"
    with EnrichedOrthanc(section={"Workers": 0}, stable_age_s=3600) as site:
        user = f"{site.user}:{site.password}"
        header = f'proxy_set_header Authorization "Basic {base64.b64encode(user.encode()).decode()}";'
        ohif = _OHIF.format(dist=default_directory() / "dist", configuration=configuration)
        site.await_service()
        for start in range(0, len(files), 50):
            site.stow(files[start : start + 50])
        with nginx(site.url, header, ohif) as port:
            login = f"{site.service_url.replace('//', f'//{user}@')}/enrichment/static/icon.svg"
            ways = {"direct": (f"http://127.0.0.1:{port}", ""), "front door": (site.service_url, login)}
            return _report(_in_turns(ways, study, len(files), pairs))


def _in_turns(ways: dict[str, tuple[str, str]], study: str, count: int, pairs: int) -> list[dict[str, Opening]]:
    """Open by each way in turns, as often as there is time for."""
    began, found = time.monotonic(), list[dict[str, Opening]]()
    for turn in range(pairs):
        if time.monotonic() - began + len(ways) * OPENING_S > ALL_S:
            print(f"no time for more than {turn} of {pairs} pairs", flush=True)
            break
        pair = dict[str, Opening]()
        for name in sorted(ways, reverse=bool(turn % 2)):
            pair[name] = opening(*ways[name], study, count)
            print(f"pair {turn + 1}, {name}: {pair[name]}", flush=True)
        found.append(pair)
    return found


def _report(found: list[dict[str, Opening]]) -> int:
    whole = [pair for pair in found if all(one.all_s is not None for one in pair.values())]
    print(f"load {os.getloadavg()[0]:.1f}, {len(whole)} of {len(found)} pairs ended, median (least to most), seconds")
    if not whole:
        print("no pair ended, so there is no ratio")
        return 1
    ratios = [_compare("first slice", [{name: one.first_s or 0.0 for name, one in pair.items()} for pair in whole])]
    ratios.append(_compare("all slices", [{name: one.all_s or 0.0 for name, one in pair.items()} for pair in whole]))
    return int(ratios[-1] > GOAL or len(whole) < len(found))


def _compare(what: str, pairs: list[dict[str, float]]) -> float:
    """Print the seconds of each way; return the median ratio of the pairs."""
    for name in pairs[0]:
        values = [pair[name] for pair in pairs]
        print(f"{what:<11} {name:<10} {statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})")
    ratio = statistics.median(pair["front door"] / pair["direct"] for pair in pairs)
    print(f"{what}: front door / direct {ratio:.2f}, median of the pairs (goal: at most {GOAL})")
    return ratio


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    sys.exit(measure(parser.parse_args().pairs))
