"""The commands that run until they are stopped: `orthanc-enrich service` and `orthanc-enrich worker`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from orthanc_plugin.cli.desk import EXIT_DONE, EXIT_FAILED, Commands, Desk, count
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.config.sections import Configuration

SIGN_OF_LIFE_S = 60.0
"""Workers write one every few seconds, and less often while the database is busy."""


def add_commands(commands: Commands) -> None:
    """Add `service` and `worker`."""
    text = "run the service: API, dashboard, DICOMweb pass-through, admission of series"
    service = commands.add("service", run_service, text)
    service.add_argument("--stdin", action="store_true", help="read secret and settings from stdin, as the plugin asks")
    worker = commands.add("worker", run_worker, "run a worker, which carries out jobs")
    worker.add_argument("--stdin", action="store_true", help="read the settings from stdin, as the service asks")
    worker.add_argument("--slot", type=count, default=0, help="number of this worker on this computer (default: 0)")

    text = "do not work: exit with 0 if the worker of this slot gave a sign of life within a minute, else with 1"
    worker.add_argument("--check", action="store_true", help=text)


def run_service(desk: Desk) -> int:
    """Run the service until it is stopped."""
    from orthanc_plugin.service import main as service

    secret, configuration = settings_of(desk)
    return service.run_service(
        configuration,
        secret,
        parent_is_stdin=desk.options.stdin,
        report_port=lambda port: print(json.dumps({"port": port}), flush=True),
        report_problem=lambda problem: print(json.dumps({"problem": problem}), flush=True),
    )


def run_worker(desk: Desk) -> int:
    """Run a worker until it is stopped, or tell whether it lives."""
    if desk.options.check:
        return _check_worker(desk)
    from orthanc_plugin.jobs.cores import limit_cores
    from orthanc_plugin.jobs.state import check_owner
    from orthanc_plugin.logs import configure_logging

    configure_logging(None)
    _, configuration = settings_of(desk)
    configure_logging(None, form=configuration.log.format)
    limit_cores(configuration.worker_cores)
    from orthanc_plugin.jobs import worker  # the libraries that it loads size their pools of threads by the cores

    check_owner(configuration.state_directory)
    return worker.run_worker(configuration, slot=desk.options.slot, parent_is_stdin=desk.options.stdin)


def _check_worker(desk: Desk) -> int:
    from orthanc_plugin.jobs.database import open_engine
    from orthanc_plugin.jobs.executor import executor_id
    from orthanc_plugin.jobs.heartbeat import Heartbeats
    from orthanc_plugin.jobs.state import check_database

    check_database(desk.configuration)
    engine = open_engine(desk.configuration.database)
    try:
        beats = Heartbeats(engine)
        beat = beats.all().get(executor_id(desk.configuration.state_directory, desk.options.slot))
        silent_s = (beats.now() - beat.at).total_seconds() if beat else None
    finally:
        engine.dispose()
    alive = silent_s is not None and silent_s < SIGN_OF_LIFE_S
    desk.say({"alive": alive, "silent_seconds": silent_s})
    return EXIT_DONE if alive else EXIT_FAILED


def settings_of(desk: Desk) -> tuple[str, Configuration]:
    """Read secret and settings: from two lines of stdin if a parent started this process, otherwise from the file.

    Raises
    ------
    ConfigError
        If the settings cannot be used.
    """
    if desk.options.stdin:
        return sys.stdin.readline().strip(), _parse_line(sys.stdin.readline())
    secret = desk.configuration.service.secret.get_secret_value()
    return secret or os.environ.get("ENRICHMENT_SECRET", ""), desk.configuration


def _parse_line(line: str) -> Configuration:
    """Parse what the plugin passes on, or a section alone, as the service sends it and plugins before an upgrade do."""
    from orthanc_plugin.config.read import parse_document, parse_section
    from orthanc_plugin.config.sections import SECTION

    try:
        content = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"the settings on stdin are not valid JSON: {error}") from None
    if isinstance(content, dict) and SECTION in content:
        return parse_document(content, os.environ)
    return parse_section(content, os.environ)
