"""Gather the cases of a validation one by one, and write its tables, its page and its reports.

A case is let go once its rows and, if it is among the worst so far, its picture are made: a CT takes a gigabyte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin import __version__
from orthanc_plugin.validation.cases import TOLERANCE_MM, Case, Row
from orthanc_plugin.validation.landmarks import LandmarkRow, landmark_rows
from orthanc_plugin.validation.page import PoorCase, Report, render_report, viewer_link
from orthanc_plugin.validation.pictures import as_data_uri, disagreement
from orthanc_plugin.validation.structures import Pair
from orthanc_plugin.validation.summary import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    BlandAltman,
    MetricSummary,
    agreement,
    summarise,
)
from orthanc_plugin.validation.tables import write_tables


@dataclass(slots=True)
class Collector:
    """What is gathered so far.

    worst_of_each: how many cases of each model and structure get a picture. viewer: address of the service, or empty.
    other: what stands in the place of the expert.
    """

    worst_of_each: int = 2
    viewer: str = ""
    other: str = "expert"
    tolerance_mm: float = TOLERANCE_MM
    rows: list[Row] = field(default_factory=list)
    landmarks: list[LandmarkRow] = field(default_factory=list)
    _worst: dict[tuple[str, str], list[PoorCase]] = field(default_factory=lambda: defaultdict(list))

    def add(self, case: Case, reports: Sequence[Dataset] = ()) -> None:
        """Add a case, with the reports on its CT that may hold landmarks."""
        self.rows += case.rows
        if case.rows and case.pairs:
            self.landmarks += landmark_rows(case, reports)
            for pair, row in zip(case.pairs, case.rows, strict=True):
                self._consider(pair, row, case)

    def _consider(self, pair: Pair, row: Row, case: Case) -> None:
        """Make a picture of a row if it is among the worst of its structure so far."""
        kept = self._worst[row.model, row.structure]
        if pair.expert is None or row.dice is None or row.dice == 1.0 or not self.worst_of_each:
            return  # what nobody drew shows nothing but the model
        if len(kept) >= self.worst_of_each and _badness(row) <= _badness(kept[-1].row):
            return
        picture, index = disagreement(pair, case.series)
        href = viewer_link(self.viewer, row.study_instance_uid, str(case.ai.get("SeriesInstanceUID") or ""))
        kept.append(PoorCase(row, as_data_uri(picture), index + 1, href))
        kept.sort(key=lambda one: _badness(one.row), reverse=True)
        del kept[self.worst_of_each :]

    def report(self, title: str) -> Report:
        """Summarise everything that was added."""
        worst = [one for _, kept in sorted(self._worst.items()) for one in kept]
        made = (
            f"Made by orthanc-enrichment {__version__}. Surface Dice at {self.tolerance_mm:g} mm. "
            f"Bootstrap: {RESAMPLES} resamples, seed {SEED}, {CONFIDENCE:.0%} intervals."
        )
        return Report(
            title, self.other, tuple(self.rows), summarise(self.rows), agreement(self.rows), tuple(self.landmarks),
            tuple(worst), made, self.viewer,
        )  # fmt: skip

    def write(self, folder: Path, name: str, title: str) -> tuple[Path, ...]:
        """Write the tables and the page, and return the files."""
        report = self.report(title)
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(self._files(folder, name, report))

    def _files(self, folder: Path, name: str, report: Report) -> Iterator[Path]:
        yield from write_tables(folder, name, Row, report.rows)
        yield from write_tables(folder, f"{name}-summary", MetricSummary, report.metrics)
        yield from write_tables(folder, f"{name}-volumes", BlandAltman, report.volumes)
        if report.landmarks:
            yield from write_tables(folder, f"{name}-landmarks", LandmarkRow, report.landmarks)
        page = folder / f"{name}.html"
        page.write_text(render_report(report), encoding="utf-8")
        yield page


def _badness(row: Row) -> tuple[float, float]:
    """Order rows by how little they agree: Dice first, then HD95; a structure that one side lacks is worst."""
    return -(row.dice if row.dice is not None else 1.0), row.hd95_mm if row.hd95_mm is not None else np.inf
