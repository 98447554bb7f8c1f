"""The real service and the real workers, but for three things that would make a thousand jobs last a day.

The model marks two boxes instead of computing, after CAMPAIGN_SECONDS. A worker that died starts again at once (the
service would wait up to a minute). CAMPAIGN_PACE, `Pace` as JSON, lets workers notice sooner that another is silent.

Usage, as the plugin and the service start it: stand_in.py service|worker [--slot N]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model
from orthanc_plugin.domain.masks import Segmentation
from orthanc_plugin.domain.plan import PlannedModel
from orthanc_plugin.domain.volume import Volume
from orthanc_plugin.inference.segments import segments_present

RESTARTS_AFTER_S = 0.2
LUNGS = {"lung_right": slice(6, 12), "lung_left": slice(18, 24)}
"""Columns of the boxes; the patient's right is where the columns begin."""


class BoxEngine:
    """An engine that marks the same two boxes as lungs in every volume."""

    provider = "cpu"

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def segment(self, volume: Volume) -> Segmentation:
        until = time.monotonic() + float(os.environ.get("CAMPAIGN_SECONDS", "0"))
        while time.monotonic() < until:
            time.sleep(0.02)
        labels = np.zeros(volume.voxels_hu.shape, np.uint8)
        for label in self.card.labels:
            if label.key in LUNGS:
                labels[4:12, 8:16, LUNGS[label.key]] = label.number
        return Segmentation(labels, segments_present(labels, self.card.labels))


class BoxModels:
    """The models of a process (see `Engines`): the card is real, the engine is not."""

    def __init__(self, models_directory: Path | None, provider: object) -> None:
        self._directory = models_directory

    def card(self, model: PlannedModel) -> ModelCard:
        return find_model(model.name, self._directory)

    def segmenter(self, model: PlannedModel) -> BoxEngine:
        return BoxEngine(self.card(model))

    def locator(self, model: PlannedModel) -> None:
        raise AssertionError("the rule of the campaign locates nothing")


def run_service() -> int:
    from orthanc_plugin.cli import main as cli
    from orthanc_plugin.service import main, workers

    workers.FIRST_DELAY_S = workers.LONGEST_DELAY_S = RESTARTS_AFTER_S
    main.worker_command = lambda slot: [sys.executable, __file__, "worker", "--slot", str(slot)]
    return cli.main(["service", "--stdin"])


def run_worker(slot: int) -> None:
    from orthanc_plugin.config.read import parse_section
    from orthanc_plugin.jobs import sessions, worker
    from orthanc_plugin.jobs.watch import Pace
    from orthanc_plugin.jobs.workflow import Retries
    from orthanc_plugin.logs import configure_logging

    configure_logging(None)
    sessions.Engines = BoxModels  # type: ignore[assignment, misc]
    sys.stdin.readline()
    configuration = parse_section(json.loads(sys.stdin.readline()), {})
    pace = Pace(**json.loads(os.environ.get("CAMPAIGN_PACE", "{}")))
    worker.run_worker(configuration, slot, True, Retries(first_wait_s=0.5), pace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["service", "worker"])
    parser.add_argument("--slot", type=int, default=0)
    options = parser.parse_args()
    if options.what == "service":
        sys.exit(run_service())
    run_worker(options.slot)


if __name__ == "__main__":
    main()
