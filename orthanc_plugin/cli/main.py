"""The command `orthanc-enrich`. Exit codes: 0 done, 1 failed, 2 wrong use, 78 configuration.

Each group of commands has its module, which adds the commands below. These modules import what a command needs only
when it runs, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress

from rich.markup import escape

from orthanc_plugin import __version__
from orthanc_plugin.cli import (
    audit,
    backfill,
    backup,
    cohort,
    demo,
    export,
    fetch,
    folder,
    inspect,
    jobs,
    measure,
    models,
    ohif,
    phantom,
    pictures,
    processes,
    rules,
    series,
    setup,
    timeline,
    tokens,
    trial,
    validate,
    webhooks,
    weights,
)
from orthanc_plugin.cli.desk import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, Command, Commands, Desk
from orthanc_plugin.cli.recording import record_deeds
from orthanc_plugin.errors import ConfigError, EnrichError
from orthanc_plugin.logs import describe, guard_process, writes_json_to_stderr

__all__ = ["EXIT_CONFIG", "EXIT_DONE", "EXIT_FAILED", "EXIT_USAGE", "main"]

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Without `arguments` it is a process of its own, which is guarded."""
    if arguments is None:
        guard_process()
    desk = Desk(_parser().parse_args(arguments))
    command: Command = desk.options.command
    failed = True
    try:
        code = command(desk) or EXIT_DONE
        sys.stdout.flush()
        failed = False
        return code
    except ConfigError as error:
        return _fail(desk, error, EXIT_CONFIG)
    except (EnrichError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return EXIT_FAILED
        return _fail(desk, error, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_FAILED
    finally:
        record_deeds(desk, failed=failed)


def _nobody_reads() -> bool:
    """Tell whether the reader of stdout has left, as `head` does; then drop what it did not take."""
    with suppress(OSError, ValueError):  # a stdout without a file
        stdout = sys.stdout.fileno()
        ends = select.poll()
        ends.register(stdout, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
            return True
    return False


def _fail(desk: Desk, error: Exception, code: int) -> int:
    if getattr(desk.options, "stdin", False) or desk.options.json:
        print(json.dumps({"error": _said(error)}), flush=True)
    elif writes_json_to_stderr():
        _log.critical("ended: %s", error if isinstance(error, EnrichError) else describe(error))
    else:
        desk.messages.print(f"[red]error:[/red] {escape(_said(error))}", highlight=False, soft_wrap=True)
    return code


def _said(error: Exception) -> str:
    """Say what is wrong; an error of the system names the file and not its number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    text = "Enrich the CT series of a PACS with DICOM SEG and SR. Research use only."
    parser = argparse.ArgumentParser(prog="orthanc-enrich", description=text)
    parser.add_argument("--version", action="version", version=f"orthanc-enrichment {__version__}")
    commands = Commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    demo.add_commands(commands)
    folder.add_commands(commands)
    inspect.add_commands(commands)
    measure.add_commands(commands)
    validate.add_commands(commands)
    timeline.add_commands(commands)
    export.add_commands(commands)
    phantom.add_commands(commands)
    processes.add_commands(commands)
    setup.add_commands(commands)
    backup.add_commands(commands)
    backfill.add_commands(commands)
    cohort.add_commands(commands.group("cohort", "tables out of stored results: build, query, send on"))
    fetch.add_commands(commands.group("fetch", "fetch public collections into an archive"))
    queue = commands.group("jobs", "list, show and retry jobs")
    jobs.add_commands(queue)
    pictures.add_commands(queue)
    series.add_commands(commands.group("series", "list decisions on series, act on many, look patients up"))
    shelf = commands.group("models", "list, check, install, convert and remove models")
    models.add_commands(shelf)
    weights.add_commands(shelf)
    ohif.add_commands(commands.group("ohif", "install the viewer that the service serves"))
    audit.add_commands(commands.group("audit", "check, show and export who did what"))
    tokens.add_commands(commands.group("tokens", "make, list and revoke tokens of the API"))
    webhooks.add_commands(commands.group("webhooks", "list and try out webhooks"))
    trial.add_commands(shelf)
    ruling = commands.group("rules", "find out which series get what")
    folder.add_rules_commands(ruling)
    rules.add_commands(ruling)
    return parser


if __name__ == "__main__":
    sys.exit(main())
