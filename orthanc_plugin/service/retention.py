"""The sweep: it removes what the settings say is too old, every few hours, and pictures in memory every minute.

`jobs.forgetting` says what goes of an old job. The file of a log that is in use stays, whatever its age.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from orthanc_plugin.audit.trail import Trail
from orthanc_plugin.config.retention import RetentionSettings
from orthanc_plugin.jobs.forgetting import forget_old
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.logs import describe

_log = logging.getLogger(__name__)

TURN_S, SWEEP_S = 60.0, 6 * 3600.0
_OLD_LOGS = ("*.log.*",)


@dataclass(frozen=True, slots=True)
class Swept:
    """How much was removed."""

    jobs: int = 0
    logs: int = 0
    audit_months: int = 0


@dataclass(frozen=True)
class Sweep:
    """Removes what is too old.

    previews: lets go of pictures that nobody looked at for so many seconds.
    """

    settings: RetentionSettings
    queue: JobQueue
    trail: Trail
    state: Path
    previews: Callable[[float], None] = lambda seconds: None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(self, stopping: threading.Event) -> None:
        """Sweep until `stopping` is set."""
        waited = SWEEP_S
        while not stopping.wait(TURN_S):
            self.previews(self.settings.preview_minutes * 60.0)
            waited += TURN_S
            if waited >= SWEEP_S:
                waited = 0.0
                self._guarded()

    def once(self) -> Swept:
        """Remove what is too old now."""
        settings = self.settings
        jobs = forget_old(self.queue, self._before(settings.job_days)) if settings.job_days else 0
        logs = self._old_logs(self._before(settings.log_days)) if settings.log_days else 0
        months = self.trail.forget_before(self._before(settings.audit_days).date()) if settings.audit_days else 0
        return Swept(jobs, logs, months)

    def _guarded(self) -> None:
        try:
            swept = self.once()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            _log.error("old data could not be removed: %s; will try again", describe(error))
            return
        if swept != Swept():
            _log.info("removed: details of %d jobs, %d log files, %d months of the audit log", swept.jobs, swept.logs,
                      swept.audit_months)  # fmt: skip

    def _before(self, days: int) -> datetime:
        return self.clock() - timedelta(days=days)

    def _old_logs(self, before: datetime) -> int:
        files = [file for pattern in _OLD_LOGS for file in self.state.glob(pattern)]
        old = [file for file in files if datetime.fromtimestamp(file.stat().st_mtime, UTC) < before]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)
