"""The service process: it starts and stops the front door, admission and local workers together.

When Orthanc's plugin starts it, the process ends when its stdin closes, so it never outlives Orthanc. It locks its
state directory, checks everything it needs before it reports its port, and stops within ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

import sqlalchemy as sa

from orthanc_plugin import __version__
from orthanc_plugin.audit.event import Event, What
from orthanc_plugin.audit.syslog import SyslogSender
from orthanc_plugin.config.sections import Configuration, section_json
from orthanc_plugin.errors import EnrichError
from orthanc_plugin.jobs.admissions import hint_to, open_admissions
from orthanc_plugin.jobs.executor import executor_id, lock_slot
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.logs import configure_logging, describe
from orthanc_plugin.service.admitting import AdmissionLoop
from orthanc_plugin.service.app import Backstage, build_app, front_archive, health_of
from orthanc_plugin.service.callers import Proxies
from orthanc_plugin.service.health import HealthCheck, problems_of
from orthanc_plugin.service.limits import Doorkeeper, limits_here
from orthanc_plugin.service.readiness import check_readiness
from orthanc_plugin.service.retention import Sweep
from orthanc_plugin.service.server import FrontDoorServer, listen
from orthanc_plugin.service.state import own_state
from orthanc_plugin.service.workers import Supervisor

_log = logging.getLogger(__name__)

WORKERS_STOP_S, ADMISSION_STOP_S = 8.0, 1.0
ORPHAN_S = 9
"""The most that the service lives without the process that started it."""
FIRST_LOOK_S, LOOK_S = 3.0, 30.0
"""Pause before the first look, and between two looks at the health for the page of Orthanc's plugin."""
_STDIN = 0


def run_service(
    configuration: Configuration,
    secret: str,
    *,
    parent_is_stdin: bool,
    report_port: Callable[[int], None],
    report_problem: Callable[[str], None] = lambda problem: None,
) -> int:
    """Run until stdin ends (`parent_is_stdin`), SIGTERM or SIGINT. Call this from the main thread.

    Parameters
    ----------
    configuration : Configuration
        The section "Enrichment".
    secret : str
        The plugin sends it with its hints. If it is empty, `Service.Secret` applies; if both are empty, the route is
        closed.
    parent_is_stdin : bool
        Whether to stop at the end of stdin and to log to `service.log` in the state directory instead of stderr.
    report_port : callable
        Receives the port as soon as the service answers there.
    report_problem : callable
        Receives what needs a person, each time that it changes; an empty text when nothing does any more.

    Returns
    -------
    int
        Exit code; 0 after a requested stop.

    Raises
    ------
    ConfigError
        If the state directory is in use, no Orthanc is configured, or a model, the runtime or pyradiomics is missing.
    TransientError
        If the port is taken.
    """
    with own_state(configuration.state_directory) as state:
        configure_logging(state / "service.log" if parent_is_stdin else None, form=configuration.log.format)
        _log.info("starting orthanc-enrichment %s", __version__)
        front_archive(configuration)
        for name, archive in configuration.archives.items():
            if archive.readable_login:
                _log.warning("archive %s: %s", name, archive.readable_login)
        secret = secret or configuration.service.secret.get_secret_value()
        readiness = check_readiness(configuration)
        stopping = threading.Event()
        with closing(JobQueue(configuration.database, configuration.stuck_s)) as queue, stop_on_signals(stopping):
            admissions = open_admissions(configuration, queue)
            loop = AdmissionLoop(*admissions)
            workers = Supervisor(configuration.workers, worker_command, worker_greeting(configuration), state)
            backstage = Backstage(
                configuration, secret, queue, hint_to(admissions), loop.state, workers.states, readiness,
                datetime.now(UTC), stopping.is_set,
            )  # fmt: skip
            app = build_app(backstage)
            audit = _Audit(backstage)
            free_removed_slots(queue, state, configuration.workers)
            with closing(listen(configuration.service.host, configuration.service.port)) as sock:
                port: int = sock.getsockname()[1]
                if parent_is_stdin:
                    _thread("parent", stop_on_end_of_stdin, stopping)
                    _thread("health", partial(report_problems, health_of(backstage), report_problem), stopping)
                threads = (_thread("workers", workers.run, stopping), _thread("admission", loop.run, stopping))
                audit.began(stopping)
                _thread("sweep", sweep_of(backstage).run, stopping)
                try:
                    proxies = Proxies(configuration.access)
                    keeper = Doorkeeper(limits_here(), proxies.trusts)
                    FrontDoorServer(app, stopping, lambda: report_port(port), keeper).run([sock])
                finally:
                    stopping.set()
                    audit.ended()
                    threads[0].join(WORKERS_STOP_S)
                    threads[1].join(ADMISSION_STOP_S)
        _log.info("stopped")
    return 0


def _thread(name: str, body: Callable[[threading.Event], None], stopping: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=body, args=(stopping,), name=name, daemon=True)
    thread.start()
    return thread


def sweep_of(backstage: Backstage) -> Sweep:
    """Make the sweep that removes what is too old."""
    configuration = backstage.configuration
    return Sweep(
        configuration.retention, backstage.queue, backstage.recorder.trail, configuration.state_directory,
        backstage.scans.forget,
    )  # fmt: skip


class _Audit:
    """The service itself in the audit log, and the log on its way to a syslog server."""

    def __init__(self, backstage: Backstage) -> None:
        self._recorder, configuration = backstage.recorder, backstage.configuration
        audit, state = configuration.audit, configuration.state_directory
        trail = self._recorder.trail
        sender = SyslogSender(trail, state, audit.syslog, audit.ca_file, audit.site) if audit.syslog else None
        self._send = sender.run if sender else None

    def began(self, stopping: threading.Event) -> None:
        """Record the start, and begin to send."""
        self._record(What.START)
        if self._send is not None:
            _thread("syslog", self._send, stopping)

    def ended(self) -> None:
        """Record the end."""
        self._record(What.STOP)

    def _record(self, what: What) -> None:
        self._recorder.record(Event(datetime.now(UTC), what, "orthanc-enrich", detail=f"version {__version__}"))


def report_problems(health: HealthCheck, report: Callable[[str], None], stopping: threading.Event) -> None:
    """Report what needs a person whenever it changes, until `stopping` is set."""
    told, pause = "", FIRST_LOOK_S
    while not stopping.wait(pause):
        pause = LOOK_S
        try:
            problem = problems_of(asyncio.run(health.look()))
        except (OSError, sa.exc.SQLAlchemyError) as error:  # the look itself failed; the next one tells more
            problem = f"the health cannot be looked at: {describe(error)}"
        if problem != told:
            report(problem)
        told = problem


@contextmanager
def stop_on_signals(stopping: threading.Event) -> Iterator[None]:
    """Set the event on SIGTERM and SIGINT."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_end_of_stdin(stopping: threading.Event) -> None:
    """Set the event when the parent is gone.

    This reads the file descriptor: a thread that holds the lock of sys.stdin would break the exit.
    """
    with contextlib.suppress(OSError):
        while os.read(_STDIN, 4096):
            pass
    signal.alarm(ORPHAN_S)  # the kernel ends what hangs, even where no Python code runs any more
    _log.info("end of stdin: the parent process is gone")
    stopping.set()


def worker_command(slot: int) -> Sequence[str]:
    """Return the command line of the worker in a slot."""
    return [sys.executable, "-P", "-m", "orthanc_plugin.cli", "worker", "--stdin", "--slot", str(slot)]


def worker_greeting(configuration: Configuration) -> bytes:
    """Return the two lines that a worker reads first: an empty secret, and the section with the archives' passwords."""
    return f"\n{section_json(configuration)}\n".encode()


def free_removed_slots(queue: JobQueue, state: Path, count: int) -> None:
    """Return the jobs of removed slots to the queue.

    A smaller `Workers` leaves slots without a worker, and no other process would resume their jobs.
    """
    for file in state.glob("worker-*.lock"):
        number = file.stem.removeprefix("worker-")
        if not number.isdigit() or int(number) < count:
            continue
        with contextlib.suppress(EnrichError):  # somebody runs a worker in that slot by hand
            lock = lock_slot(state, int(number), wait_s=0)
            if resumed := queue.custody.resume_dead(executor_id(state, int(number))):
                _log.info("%d jobs of the removed worker %s returned to the queue", resumed, number)
            os.close(lock)
