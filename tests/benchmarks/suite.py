"""One table of all stages and the whole job, this project beside its peers: `make bench`, `make bench-ci`.

Each side of a stage has a process of its own, whose peak memory counts, and which is ended after a minute; sides take
turns. CPU seconds (medians) make the ratio, since other programs hardly change them. A side that is missing, fails or
takes too long is a row that says so. `--ci` measures the small stages that have a peer, both sides in one process by
turns, and fails if a ratio is 30 % below the one in stated_ratios.json in three tries. `--write` keeps the result and
puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.compare import WORST, worse
from tests.benchmarks.record import about_machine
from tests.benchmarks.scaling_page import PERFORMANCE, markdown, write_part
from tests.benchmarks.stages import OURS, STAGES, Size, Stage, growing

HERE = Path(__file__).parent
STATED, RESULT = HERE / "stated_ratios.json", HERE / "suite_result.json"
ROUNDS, TURNS = 3, 2
LIMIT_S = 60.0
_LONGEST_ROUNDS_S = 15.0
AGAIN = 2
PARITY = Path(".parity/bin/python")
_DEMO = [sys.executable, "-m", "orthanc_plugin.cli", "demo", "--exit", "--json", "--directory"]
Row = dict[str, Any]


def measured(stage: Stage, sides: list[str], size: Size, rounds: int) -> dict[str, Any]:
    """Run sides by turns; return the CPU and wall seconds of each turn, after a first one that warms up."""
    with ExitStack() as stack:
        ready = stage.prepare(size, stack)
        found: dict[str, Any] = {name: {"cpu_s": [], "wall_s": []} for name in sides or ready}
        began = time.perf_counter()
        for turn in range(rounds + 1):
            for name, kept in found.items():
                cpu, wall = time.process_time(), time.perf_counter()
                ready[name]()
                if turn:
                    kept["cpu_s"].append(time.process_time() - cpu)
                    kept["wall_s"].append(time.perf_counter() - wall)
            if turn and time.perf_counter() - began > _LONGEST_ROUNDS_S:
                break
        return {
            "sides": [*ready],
            "found": found,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def in_process(name: str, sides: list[str], size: Size, rounds: int = ROUNDS) -> tuple[dict[str, Any] | None, str]:
    """Measure in another process; return what it found, or why it found nothing."""
    command = [sys.executable, "-m", __spec__.name, "--stage", name, "--size", size, "--rounds", str(rounds)]
    return _asked([*command, "--sides", *sides], LIMIT_S)


def _asked(command: list[str], limit_s: float) -> tuple[dict[str, Any] | None, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None, f"not ended after {limit_s:.0f} s"
    except OSError:
        return None, "not installed"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return None, f"failed: {last[:120]}"
    told: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return told, ""


def stage_rows(name: str, size: Size) -> list[Row]:
    """Measure a stage side by side: a row for each side."""
    first, why = in_process(name, [OURS], size)
    if first is None:
        return [{"stage": name, "side": OURS, "why": why}]
    kept: dict[str, list[dict[str, Any]]] = {side: [] for side in first["sides"]}
    kept[OURS].append(first)
    reasons: dict[str, str] = {}
    for turn in range(TURNS):
        for side in kept:
            if side == OURS and turn == 0:
                continue
            found, why = in_process(name, [side], size)
            if found is None:
                reasons[side] = why
            else:
                kept[side].append(found)
    return [_row(name, side, runs, reasons.get(side, "")) for side, runs in kept.items()]


def _row(name: str, side: str, runs: list[dict[str, Any]], why: str) -> Row:
    if not runs:
        return {"stage": name, "side": side, "why": why}
    figures = {
        key: statistics.median([second for run in runs for second in run["found"][side][key]])
        for key in ("cpu_s", "wall_s")
    }
    return {"stage": name, "side": side, **figures, "peak_mib": max(run["peak_mib"] for run in runs)}


def growth_rows(names: list[str]) -> list[Row]:
    """Measure what grows, ours only."""
    rows = []
    for name in names:
        found, why = in_process(name, [OURS], Size.CI, 1)
        rows.append(_row(name, OURS, [found] if found else [], why))
    return rows


def waiting_rows(limit_s: float) -> list[Row]:
    """Measure the claim of a job and the list of jobs while 10 to 100,000 jobs wait."""
    rows: list[Row] = []
    for jobs in (1_000, 10_000, 100_000):
        command = [sys.executable, "-m", "tests.benchmarks.queue_scale", "--jobs", str(jobs), "--json"]
        found, why = _asked(command, limit_s)
        if found is None:
            rows.append({"stage": f"queue, {jobs:,} jobs wait", "side": OURS, "why": why})
        for what, milliseconds in (found or {}).items():
            rows.append({"stage": f"{what}, {jobs:,} jobs wait", "side": OURS, "cpu_s": milliseconds / 1000})
    return rows


def idle_rows() -> list[Row]:
    """Measure what service and worker spend in a second in which there is nothing to do."""
    found, why = _asked([sys.executable, "-m", "tests.benchmarks.idle"], 3 * LIMIT_S)
    if found is None:
        return [{"stage": "a second without work", "side": OURS, "why": why}]
    return [{"stage": f"{name}: a second without work", "side": OURS, "cpu_s": spent} for name, spent in found.items()]


def job_row(folder: Path) -> list[Row]:
    """Run the demo on the phantom: a whole job with Orthanc, service and worker."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    found, why = _asked([*_DEMO, str(folder)], 2 * LIMIT_S)
    if found is None:
        return [{"stage": "whole job, phantom", "side": OURS, "why": why}]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (job,) = found["jobs"].values()
    rows = [
        {"stage": f"job: {stage['name']}", "side": OURS, "wall_s": stage["seconds"], "peak_mib": stage["peak_mib"]}
        for stage in job["stages"]
    ]
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    whole = {"stage": "whole job, phantom", "side": OURS, "cpu_s": spent, "wall_s": time.perf_counter() - began}
    return [*rows, whole]


def framework_rows() -> list[Row]:
    """Run the small nnU-Net beside nnunetv2's predictor, in the environment of the parity tests."""
    command = [str(PARITY), "-m", "tests.benchmarks.nnunet_against_peer", "small", "--json", "--limit-s", "90"]
    found, why = _asked(command, 5 * LIMIT_S)
    if found is None:
        return [{"stage": "nnU-Net, small", "side": "nnunetv2", "why": why}]
    rows = []
    for side, name in (("ours", OURS), ("peer", "nnunetv2")):
        told = found[side]
        if told["broken_off"]:
            rows.append({"stage": "nnU-Net, small", "side": name, "why": told["broken_off"]})
            continue
        for stage in ("preprocessing", "network", "rest"):
            rows.append({"stage": f"nnU-Net, small: {stage}", "side": name, "wall_s": told[stage]})
        whole = {"cpu_s": told["cpu"], "wall_s": told["all"], "peak_mib": told["peak_mib"]}
        rows.append({"stage": "nnU-Net, small", "side": name, **whole})
    return rows


def ratios(rows: list[Row]) -> dict[str, float]:
    """Divide each peer's CPU seconds (else seconds) by ours."""
    ours = {row["stage"]: row for row in rows if row["side"] == OURS}
    found = {}
    for row in rows:
        mine = ours.get(row["stage"], {})
        key = next((key for key in ("cpu_s", "wall_s") if key in row and mine.get(key)), None)
        if row["side"] != OURS and key:
            found[f"{row['stage']} / {row['side']}"] = row[key] / mine[key]
    return found


def table(rows: list[Row]) -> str:
    """Write the rows as Markdown."""
    found = ratios(rows)
    cells = [
        (
            row["stage"],
            row["side"],
            *(f"{row[key]:.3g}" if key in row else "" for key in ("cpu_s", "wall_s")),
            f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
            row.get("why") or (f"{ratio:.1f}" if (ratio := found.get(f"{row['stage']} / {row['side']}")) else ""),
        )
        for row in rows
    ]
    return markdown(("stage", "side", "CPU s", "seconds", "peak MiB", "ratio"), cells)


def whole(folder: Path) -> dict[str, Any]:
    """Measure everything, and say where."""
    names = [name for name, _ in growing()]
    rows: list[Row] = []
    for name in STAGES:
        rows += stage_rows(name, Size.FULL)
        print(table(rows[-2:]), file=sys.stderr, flush=True)
    rows += [*job_row(folder), *idle_rows(), *framework_rows(), *growth_rows(names), *waiting_rows(LIMIT_S)]
    return {**about_machine(), "load": os.getloadavg()[0], "rows": rows, "ratios": ratios(rows)}


def ci() -> dict[str, float]:
    """Measure the ratios of the small stages, both sides by turns in one process."""
    found = {}
    for name, stage in STAGES.items():
        if stage.ci:
            told, why = in_process(name, [], Size.CI, 5)
            if told is None:
                raise SystemExit(f"{name}: {why}")
            rows = [_row(name, side, [told], "") for side in told["sides"]]
            found |= ratios(rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ci", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the result, and write docs/performance.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result into a file")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--sides", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=Size, default=Size.FULL, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        stage = {**STAGES, **dict(growing())}[options.stage]
        print(json.dumps(measured(stage, options.sides, options.size, options.rounds)))
    elif options.ci:
        _ci(options.write)
    else:
        _whole(options)


def _ci(write: bool) -> None:
    found = ci()
    if write:
        STATED.write_text(json.dumps({name: round(ratio, 2) for name, ratio in found.items()}, indent=1) + "\n")
    stated = json.loads(STATED.read_text())
    for _ in range(AGAIN):
        if worse(stated, found):  # memory that the kernel moves about makes one process slow: ask new ones
            found = {name: max(ratio, found[name]) for name, ratio in ci().items()}
    for name, ratio in found.items():
        print(f"{name}: {ratio:.2f} (stated: {stated.get(name, 0):.2f}, least: {WORST * stated.get(name, 0):.2f})")
    if bad := worse(stated, found):
        raise SystemExit(f"slower than stated by more than 30 %: {', '.join(bad)}")


def _whole(options: argparse.Namespace) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        result = whole(Path(folder, "demo"))
    text = table(result["rows"])
    print(text)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        write_part("suite", text, page=PERFORMANCE)


if __name__ == "__main__":
    main()
