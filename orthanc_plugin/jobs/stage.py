"""Run one stage of a job: measure it, and turn every error into a state and a reason of the ledger.

This is the only border of a job that catches every exception. An error that is worth another try goes up to the job
engine until the last try. Every other error becomes an outcome that ends the job. The text of an exception that is not
ours may quote patient data, so only its kind and place are kept.
"""

from __future__ import annotations

import logging
import resource
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from orthanc_plugin.domain.job import Found, JobState, StageOutcome, StageView
from orthanc_plugin.errors import EnrichError, InputError, RefusedError, StoreError, TransientError

_PACKAGE = "orthanc_plugin"
logger = logging.getLogger(__name__)


def run_stage(name: str, body: Callable[[], Found], *, last_try: bool) -> StageOutcome:
    """Run a stage and return its outcome.

    Parameters
    ----------
    name : str
        Name of the stage, e.g. `segment chest_structures`.
    body : callable
        The stage itself.
    last_try : bool
        Whether an error that could be tried again ends the job now.

    Raises
    ------
    TransientError, StoreError
        If the stage is worth another try.
    """
    began = time.monotonic()
    _forget_peak()

    def outcome(found: Found, state: JobState = JobState.RUNNING, reason: str = "", detail: str = "") -> StageOutcome:
        seconds, peak_mib = round(time.monotonic() - began, 3), round(_peak_mib(), 1)
        stage = StageView(
            name, seconds, peak_mib, found.provider, found.volumes_ml, found.notes,
            found.location, found.checks, found.held_back, found.confidence, found.compared,
        )  # fmt: skip
        return StageOutcome(stage, found.stored, state, reason, detail, found.more, found.masks)

    try:
        return outcome(body())
    except InputError as error:
        return outcome(Found(), JobState.SKIPPED, error.reason, str(error))
    except (TransientError, StoreError) as error:
        if not last_try and not isinstance(error, RefusedError):
            raise
        return outcome(Found(), JobState.FAILED, "failed", f"{type(error).__name__}: {error}")
    except EnrichError as error:
        return outcome(Found(), JobState.FAILED, "failed", f"{type(error).__name__}: {error}")
    except MemoryError as error:
        if not last_try:
            raise TransientError(f"out of memory in stage {name}") from error
        return outcome(Found(), JobState.FAILED, "failed", f"out of memory in stage {name}")
    except Exception as error:
        place = "".join(traceback.format_tb(error.__traceback__))
        logger.error("stage %s: unexpected %s\n%s", name, type(error).__name__, place)
        return outcome(Found(), JobState.FAILED, "failed", f"unexpected {type(error).__name__} {whereabouts(error)}")


def whereabouts(error: Exception) -> str:
    """Return the last file and line of ours that an error went through: all that may be kept of an unknown error."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGE in frame.filename] or list(frames)
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _forget_peak() -> None:
    """Reset the peak of resident memory; if Linux forbids that, the peak remains that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        logger.debug("cannot reset the peak of resident memory")


def _peak_mib() -> float:
    """Return the highest resident memory since the last reset (VmHWM), in MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
