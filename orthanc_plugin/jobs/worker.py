"""A worker: a process that takes jobs from the queue, one at a time, and keeps its models loaded.

It knows the job database and the archives, and nothing else. It stops on SIGTERM and SIGINT, and at the end of stdin if
its parent holds that, so that a killed parent leaves no orphan. The next worker continues an interrupted job at its
first step that is not recorded.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from orthanc_plugin.archive.opening import open_archive
from orthanc_plugin.archive.protocol import Archive
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.jobs.cores import be_nice
from orthanc_plugin.jobs.engine import APPLICATION_NAME, APPLICATION_VERSION
from orthanc_plugin.jobs.executor import executor_id, lock_slot
from orthanc_plugin.jobs.heartbeat import AtWork
from orthanc_plugin.jobs.promises import Promises
from orthanc_plugin.jobs.queue import JobQueue
from orthanc_plugin.jobs.sessions import warm_sessions
from orthanc_plugin.jobs.source import KeptPredecessors, LedgerNames
from orthanc_plugin.jobs.steps import Steps
from orthanc_plugin.jobs.watch import Pace, Watch
from orthanc_plugin.jobs.webhooks import Webhooks
from orthanc_plugin.jobs.workflow import Retries, register_workflows, tell_wait
from orthanc_plugin.radiomics.reference import load_pyradiomics

logger = logging.getLogger(__name__)

LEAVE_S = 3.0
"""Time to stop the engine. The service waits four seconds before it sends SIGTERM, and kills two seconds later."""
ORPHAN_S = 8
"""The most that a worker lives without the process that started it."""


def run_worker(
    configuration: Configuration,
    slot: int,
    parent_is_stdin: bool,
    retries: Retries | None = None,
    pace: Pace | None = None,
) -> NoReturn:
    """Take jobs until told to stop, then end the process at once and abandon the step that runs.

    Parameters
    ----------
    configuration : Configuration
        Configuration of the service, or of this remote worker.
    slot : int
        Number of this worker in its state directory; the process holds a lock on it.
    parent_is_stdin : bool
        Whether to stop when stdin ends.
    retries : Retries, optional
        How often to try a step again while an archive is away.
    pace : Pace, optional
        How often to beat, and when another worker counts as dead.

    Raises
    ------
    EnrichError
        If another live worker has the slot.
    """
    os.umask(0o077)
    be_nice()
    load_pyradiomics()
    lock_slot(configuration.state_directory, slot)
    stopping = _stop_event(parent_is_stdin)
    me = executor_id(configuration.state_directory, slot)
    queue = JobQueue(configuration.database)
    archives: dict[str, Archive] = {name: open_archive(name, a) for name, a in configuration.archives.items()}
    DBOS(config=engine_configuration(configuration.database, me))
    at_work = AtWork()
    names = LedgerNames(queue.ledger, lambda: str(DBOS.workflow_id))
    promises = Promises(queue.ledger.engine, me)
    sessions = replace(warm_sessions(configuration, archives, tell_wait, promises), names=names)
    if configuration.keep_superseded:
        sessions = replace(sessions, predecessors=KeptPredecessors(queue.ledger))
    register_workflows(
        sessions,
        Steps(
            queue,
            configuration.keep_superseded,
            Webhooks(configuration.webhooks),
            configuration.keep_without_source,
        ),
        retries or Retries(),
        at_work,
    )
    queue.heartbeats.beat(me, APPLICATION_VERSION, ())
    DBOS.launch()
    pace = pace or Pace(dead_s=configuration.take_over_s)
    watch = Watch(queue, me, at_work, pace, partial(_start_again, queue, me, parent_is_stdin))
    threading.Thread(target=watch.run, args=(stopping,), name="watch", daemon=True).start()
    logger.info("worker %s takes jobs", me)
    stopping.wait()
    logger.info("worker %s stops", me)
    _leave(queue, me)


def engine_configuration(database: str, me: str) -> DBOSConfig:
    """Configure the job engine for the worker whose executor id is `me`."""
    return {
        "name": APPLICATION_NAME,
        "system_database_url": database,
        "application_version": APPLICATION_VERSION,
        "executor_id": me,
        "log_level": "WARNING",
        "db_engine_kwargs": {"hide_parameters": True},
        "serializer": DBOSPortableJSONSerializer(),
    }


def _stop_event(parent_is_stdin: bool) -> threading.Event:
    """Return an event that is set when the worker must stop."""
    stopping = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.set()

    def watch_parent() -> None:
        # The descriptor, not sys.stdin: a thread that holds the lock of sys.stdin would block the exit.
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        signal.alarm(ORPHAN_S)  # the kernel ends what hangs, even where no Python code runs any more
        stopping.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if parent_is_stdin:
        threading.Thread(target=watch_parent, name="parent", daemon=True).start()
    return stopping


def _start_again(queue: JobQueue, me: str, parent_is_stdin: bool) -> NoReturn:
    """End this process; the parent starts the next one, or this one becomes it."""
    _return_jobs(queue, me)
    if not parent_is_stdin:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line
    os._exit(0)


def _leave(queue: JobQueue, me: str) -> NoReturn:
    """Stop taking jobs, return the unfinished ones to the queue, and end the process."""
    _return_jobs(queue, me)
    os._exit(0)


def _return_jobs(queue: JobQueue, me: str) -> None:
    """Return the unfinished jobs if the engine and the database allow it in time; else their next worker finds them."""
    returning = threading.Thread(target=_stop_engine, args=(queue, me), name="leave", daemon=True)
    returning.start()
    returning.join(LEAVE_S)
    if returning.is_alive():
        logger.warning("worker %s leaves with its jobs: the database did not answer in %.1f s", me, LEAVE_S)
    logging.shutdown()


def _stop_engine(queue: JobQueue, me: str) -> None:
    DBOS.destroy()  # joins each of its threads for up to ten seconds
    # If the engine recovered it, that would count as a crash, and three crashes end a job.
    with suppress(sa.exc.SQLAlchemyError):  # without a database the others find out by the silence
        queue.custody.resume_dead(me)
        queue.heartbeats.forget(me)
