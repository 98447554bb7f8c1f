"""Measure the tables of a cohort: reading DICOM objects, building 100,000 series, and asking them.

Usage: python -m tests.benchmarks.cohort [--series N] [--write]: `--write` puts the figures into docs/cohort.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from orthanc_plugin.cohort.build import Built, build
from orthanc_plugin.cohort.ct_rows import ct_unit
from orthanc_plugin.cohort.named import NAMED
from orthanc_plugin.cohort.query import opened, run
from orthanc_plugin.cohort.sources import FolderSource, Found
from orthanc_plugin.cohort.unit import Row, Unit
from tests.support.cases.cohort_case import our_results, write
from tests.support.cases.results_case import small_series

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cohort.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
STRUCTURES = (
    ("Heart", "80891009", 620.0),
    ("Aorta", "15825003", 240.0),
    ("Trachea", "44567001", 45.0),
    ("Esophagus", "32849002", 30.0),
    ("Spinal cord", "2748008", 55.0),
)
FEATURES = (
    "shape_VoxelVolume", "shape_MeshVolume", "shape_SurfaceArea", "shape_Sphericity", "shape_Flatness",
    "shape_Elongation", "shape_MajorAxisLength", "shape_MinorAxisLength", "shape_Maximum3DDiameter", "firstorder_Mean",
    "firstorder_Median", "firstorder_Minimum", "firstorder_Maximum", "firstorder_Variance", "firstorder_Skewness",
    "firstorder_Kurtosis", "firstorder_Entropy", "firstorder_Energy", "glcm_JointEntropy", "glcm_Contrast",
)  # fmt: skip
SCANNERS = (("SIEMENS", "B30f"), ("GE", "STANDARD"), ("Philips", "B"), ("TOSHIBA", "FC08"))
ROUNDS = 5


class SyntheticSource:
    """CT series with a SEG of five structures and a report of a hundred numbers and two landmarks each."""

    name = "synthetic"

    def __init__(self, series: int) -> None:
        self._series = series
        self._header = small_series().headers[0]

    def __iter__(self) -> Iterator[Found]:
        """List three objects for each series."""
        for number in range(self._series):
            for kind, make in (("ct", self._ct), ("seg", self._seg), ("sr", self._report)):
                yield Found(f"{number:07d}/{kind}", "1", lambda make=make, number=number: make(number))  # type: ignore[misc]

    def _ct(self, number: int) -> Unit:
        unit = ct_unit(self._header, "synthetic", 300, lambda patient_id: f"p{number // 2}")
        maker, kernel = SCANNERS[number % len(SCANNERS)]
        row = unit.rows["series"][0] | {
            "series_instance_uid": f"2.25.1{number:07d}",
            "manufacturer": maker,
            "convolution_kernel": kernel,
            "study_date": f"2025{number % 12 + 1:02d}15",
        }
        return Unit(f"2.25.4{number:07d}", "", f"2.25.1{number:07d}", is_source=True, rows={"series": [row]})

    def _seg(self, number: int) -> Unit:
        rows = [self._structure(number, index) | {"category_code": "123037004", "frames": 60} for index in range(5)]
        return self._unit(number, "2", "seg", {"segments": rows})

    def _report(self, number: int) -> Unit:
        dice = random.Random(number)
        rows = []
        for index, (_, _, volume_ml) in enumerate(STRUCTURES):
            common, size = self._structure(number, index), volume_ml * dice.lognormvariate(0, 0.2)
            for place, feature in enumerate(FEATURES):
                value = size * 1000 if "Volume" in feature else dice.gauss(10 * place, 3)
                rows.append(common | {"feature": feature, "value": value, "unit": "mm3", "image": "original"})
        landmarks: list[Row] = [
            {**self._ids(number, "3"), "kind": "body-landmarks", "landmark": name, "position_mm": dice.gauss(at, 20)}
            for name, at in (("lung_start", -250.0), ("lung_end", 10.0))
        ]
        return self._unit(number, "3", "radiomics", {"measurements": rows, "landmarks": landmarks})

    def _ids(self, number: int, kind: str) -> Row:
        return {
            "sop_instance_uid": f"2.25.{kind}{number:07d}",
            "study_instance_uid": f"2.25.9{number:07d}",
            "series_instance_uid": f"2.25.1{number:07d}",
            "model": "synthetic",
            "model_version": "1.0.0",
        }

    def _structure(self, number: int, index: int) -> Row:
        label, code, _ = STRUCTURES[index]
        return self._ids(number, "3") | {
            "seg_sop_instance_uid": f"2.25.2{number:07d}", "segment_number": index + 1, "label": label,
            "structure_code": code, "structure_scheme": "SCT", "structure_meaning": label,
            "tracking_uid": f"2.25.8{number:07d}{index}", "structure_modifier": "",
        }  # fmt: skip

    def _unit(self, number: int, kind: str, name: str, rows: dict[str, list[Row]]) -> Unit:
        ids = self._ids(number, kind)
        return Unit(
            str(ids["sop_instance_uid"]), str(ids["study_instance_uid"]), str(ids["series_instance_uid"]), kind=name,
            model="synthetic", model_version="1.0.0", created="20250101120000", rows=rows,
        )  # fmt: skip


def reading_rate(folder: Path) -> tuple[int, float]:
    """Read our own results of one series from a folder, and return objects and seconds."""
    write([ds for ds in our_results() if ds.Modality in ("SEG", "SR")] * 10, folder / "in")
    begun = time.perf_counter()
    built = build(FolderSource(folder / "in", str), folder / "out")
    return built.read, time.perf_counter() - begun


def query_times(folder: Path) -> dict[str, list[float]]:
    """Ask each ready query several times, each time on fresh tables as the command does, and return milliseconds."""
    times: dict[str, list[float]] = {}
    for name, query in NAMED.items():
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            with opened(folder) as connection:
                run(connection, query.sql, query.parameters)
            times.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    return times


def figures(series: int, folder: Path) -> str:
    """Measure, and return the figures as a table in words."""
    objects, reading_s = reading_rate(folder / "reading")
    begun = time.perf_counter()
    built = build(SyntheticSource(series), folder / "tables")
    first_s = time.perf_counter() - begun
    begun = time.perf_counter()
    again = build(SyntheticSource(series), folder / "tables")
    again_s = time.perf_counter() - begun
    if (again.read, again.digest) != (0, built.digest):
        raise SystemExit("the second build is not like the first")
    sizes = {file.suffix: file for file in (folder / "tables").iterdir()}
    parquet_mb = sum(f.stat().st_size for f in (folder / "tables").glob("*.parquet")) / 1e6
    store_mb = sizes[".sqlite"].stat().st_size / 1e6
    times = query_times(folder / "tables")
    return _words(series, built, first_s, again_s, (parquet_mb, store_mb), (objects, reading_s), times)


def _words(
    series: int,
    built: Built,
    first_s: float,
    again_s: float,
    sizes_mb: tuple[float, float],
    reading: tuple[int, float],
    times: dict[str, list[float]],
) -> str:
    medians = {name: statistics.median(of) for name, of in times.items()}
    lines = [
        f"{series:,} synthetic series (each a CT, a SEG of 5 structures, a report of 100 numbers),"
        f" {os.cpu_count()} cores, Python {platform.python_version()}, DuckDB {duckdb.__version__}:",
        "",
        f"- first build: {first_s:.0f} s, {series / first_s:.0f} series a second (rows made, kept and written);"
        f" {built.rows['measurements']:,} measurements",
        f"- build again without a change: {again_s:.0f} s, with the same digest",
        f"- size: {sizes_mb[0]:.0f} MB of Parquet, {sizes_mb[1]:.0f} MB of {'build.sqlite'}",
        f"- reading: {reading[0] / reading[1]:.0f} DICOM objects a second (SEG and SR of this project, from a folder);"
        " over DICOMweb, the archive sets the pace",
        f"- ready queries: median {statistics.median(medians.values()):.0f} ms over all; each is the median of {ROUNDS}"
        " runs, opening of the tables included",
        "",
        "| query | ms |",
        "|---|---|",
        *(f"| `{name}` | {ms:.0f} |" for name, ms in medians.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = figures(options.series, Path(folder))
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
