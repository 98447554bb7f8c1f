"""The command `orthanc-enrich`. Exit codes: 0 done, 1 failed, 2 wrong use, 78 configuration.

Results go to stdout (`--json` for machines), progress and messages to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orthanc_plugin import __version__
from orthanc_plugin.cli import models as models_cli
from orthanc_plugin.errors import ConfigError, EnrichError

if TYPE_CHECKING:
    from orthanc_plugin.config.sections import Configuration
    from orthanc_plugin.jobs.record import JobState

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG = 0, 1, 2, 78

messages = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        return _fail(options, error, EXIT_CONFIG)
    except (EnrichError, OSError) as error:
        return _fail(options, error, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_FAILED


def _fail(options: argparse.Namespace, error: Exception, code: int) -> int:
    if getattr(options, "stdin", False) or getattr(options, "json", False):
        print(json.dumps({"error": str(error)}), flush=True)
    else:
        messages.print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
    return code


def _run(options: argparse.Namespace) -> int:
    from orthanc_plugin.cli import run as once

    outcomes = once.enrich_folder(options.directory, options.out, _configuration(options), messages)
    if options.json:
        _print_json([dataclasses.asdict(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            once.show_outcome(outcome, _console())
    states = [outcome.state for outcome in outcomes]
    return EXIT_DONE if "done" in states and "failed" not in states else EXIT_FAILED


def _demo(options: argparse.Namespace) -> int:
    from orthanc_plugin.cli import demo
    from orthanc_plugin.cli.demo_model import ShownModel

    directory = options.models or _configuration(options).models_directory
    shown = ShownModel(options.model, directory, options.allow_test_model) if options.model else None
    return demo.run_demo(
        options.ct,
        directory=options.directory,
        stay=not options.exit,
        json_output=options.json,
        console=_console(),
        shown=shown,
        models_directory=directory,
    )


def _phantom(options: argparse.Namespace) -> int:
    from orthanc_plugin.phantoms.dicom import write_phantom
    from orthanc_plugin.phantoms.phantom import make_phantom

    phantom = make_phantom(seed=options.seed)
    files = write_phantom(options.out, phantom)
    if options.json:
        _print_json({"directory": str(options.out), "files": len(files), "volumes_ml": dict(phantom.volumes_ml)})
    else:
        table = Table("structure", "mL", title=f"phantom: {len(files)} slices in {options.out}")
        for key, volume_ml in phantom.volumes_ml.items():
            table.add_row(key, f"{volume_ml:.0f}")
        _console().print(table)
    return EXIT_DONE


def _service(options: argparse.Namespace) -> int:
    from orthanc_plugin.service.main import run_service

    secret, configuration = _parent_or_file(options)
    return run_service(
        configuration,
        secret,
        parent_is_stdin=options.stdin,
        report_port=lambda port: print(json.dumps({"port": port}), flush=True),
    )


def _worker(options: argparse.Namespace) -> int:
    from orthanc_plugin.jobs.worker import run_worker
    from orthanc_plugin.logs import configure_logging

    configure_logging(None)
    _, configuration = _parent_or_file(options)
    return run_worker(configuration, slot=options.slot, parent_is_stdin=options.stdin)


def _parent_or_file(options: argparse.Namespace) -> tuple[str, Configuration]:
    """Secret and configuration: two lines of stdin where a parent started us, else the configuration file."""
    from orthanc_plugin.config.read import parse_section

    if not options.stdin:
        configuration = _configuration(options)
        secret = configuration.service.secret.get_secret_value()
        return secret or os.environ.get("ENRICHMENT_SECRET", ""), configuration
    secret, section = sys.stdin.readline().strip(), sys.stdin.readline()
    try:
        return secret, parse_section(json.loads(section), os.environ)
    except ValueError as error:
        raise ConfigError(f"the section on stdin is no JSON: {error}") from None


def _job_state(text: str) -> JobState:
    from orthanc_plugin.jobs.record import JobState

    if text not in list(JobState):
        raise argparse.ArgumentTypeError(f"one of {', '.join(JobState)}")
    return JobState(text)


def _jobs_list(options: argparse.Namespace) -> int:
    from orthanc_plugin.jobs.queue import JobQueue

    jobs = JobQueue(_configuration(options).database).list(state=options.state, limit=options.limit)
    if options.json:
        _print_json([dataclasses.asdict(job) for job in jobs])
        return EXIT_DONE
    for job in jobs:  # no table: it would cut the ids that `jobs show` asks for
        _console().print(f"{job.id} [bold]{job.state}[/bold]", soft_wrap=True)
        _console().print(f"  rule {job.rule}, series {job.series_instance_uid}, {job.created_at:%Y-%m-%d %H:%M:%S} UTC")
        if job.error:
            _console().print(f"  {job.error}", soft_wrap=True, markup=False)
    return EXIT_DONE


def _jobs_show(options: argparse.Namespace) -> int:
    from orthanc_plugin.jobs.queue import JobQueue

    job = JobQueue(_configuration(options).database).show(options.job)
    _print_json(dataclasses.asdict(job))
    return EXIT_DONE


def _jobs_retry(options: argparse.Namespace) -> int:
    from orthanc_plugin.jobs.queue import JobQueue

    JobQueue(_configuration(options).database).retry(options.job)
    _say(options, {"retried": options.job})
    return EXIT_DONE


def _jobs_radiomics(options: argparse.Namespace) -> int:
    from orthanc_plugin.jobs.numbers import StoredResults
    from orthanc_plugin.jobs.queue import JobQueue
    from orthanc_plugin.results.sr.radiomics_table import to_csv, to_json

    configuration = _configuration(options)
    rows = StoredResults(JobQueue(configuration.database), configuration.archives).radiomics(options.job)
    print((to_json if options.json else to_csv)(rows).rstrip("\n"))
    return EXIT_DONE


def _models(options: argparse.Namespace) -> int:
    options.action(models_cli.Desk(options, _configuration(options), _console(), messages))
    return EXIT_DONE


def _rules_test(options: argparse.Namespace) -> int:
    from orthanc_plugin.cli import run as once

    verdicts = once.check_rules(options.directory, _configuration(options))
    if options.json:
        _print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    else:
        for verdict in verdicts:
            once.show_verdict(verdict, _console())
    return EXIT_DONE


def _configuration(options: argparse.Namespace) -> Configuration:
    from orthanc_plugin.config.read import load_configuration, parse_section

    path = options.config or os.environ.get("ENRICHMENT_CONFIG")
    return load_configuration(Path(path), os.environ) if path else parse_section({}, os.environ)


def _console() -> Console:
    """Stdout; wide where it is no terminal, so that no table is cut in logs."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def _say(options: argparse.Namespace, facts: Mapping[str, Any]) -> None:
    if options.json:
        _print_json(facts)
    else:
        _console().print("\n".join(f"{key}: {value}" for key, value in facts.items()), markup=False)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    common.add_argument("--config", type=Path, help="orthanc.json or its folder (default: $ENRICHMENT_CONFIG)")

    parser = argparse.ArgumentParser(
        prog="orthanc-enrich", description="Enriches CT in a PACS: SEG and SR out of every series. Research use only."
    )
    parser.add_argument("--version", action="version", version=f"orthanc-enrichment {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        group: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        command: Callable[[argparse.Namespace], int],
        text: str,
    ) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(command=command)
        return sub

    demo = add(commands, "demo", _demo, "start an Orthanc, send it a CT, show what comes back")
    demo.add_argument("ct", nargs="?", type=Path, help="folder of CT files (default: a phantom)")
    demo.add_argument("--exit", action="store_true", help="stop when the results are there")
    demo.add_argument("--directory", type=Path, default=Path(".demo"), help="where the demo keeps its data")
    demo.add_argument("--model", help="model to show: its name, its folder, or published weights (folder or zip)")
    demo.add_argument("--models", type=Path, metavar="DIR", help="folder of models (default: ModelsDirectory)")
    demo.add_argument("--allow-test-model", action="store_true", help="run a test model on patients too")

    run = add(commands, "run", _run, "enrich a folder without a PACS: CT in, SEG and SR out")
    run.add_argument("directory", type=Path, help="folder of CT files, any depth")
    run.add_argument("--out", type=Path, required=True, help="folder for the objects")

    phantom = add(commands, "phantom", _phantom, "write a procedural chest CT as DICOM")
    phantom.add_argument("--out", type=Path, required=True)
    phantom.add_argument("--seed", type=int, default=0)

    service = add(commands, "service", _service, "the front door: API, dashboard, DICOMweb pass-through, admission")
    service.add_argument("--stdin", action="store_true", help="started by the plugin: secret and section on stdin")

    worker = add(commands, "worker", _worker, "carries jobs out")
    worker.add_argument("--stdin", action="store_true", help="started by the service: section on stdin")
    worker.add_argument("--slot", type=int, default=0, help="number of this worker on this machine")

    jobs = commands.add_parser("jobs", help="list, show and retry jobs").add_subparsers(required=True)
    listing = add(jobs, "list", _jobs_list, "newest jobs first")
    listing.add_argument("--state", type=_job_state, help="only jobs in this state")
    listing.add_argument("--limit", type=int, default=50)
    for name, function, text in (
        ("show", _jobs_show, "one job with its stages and objects"),
        ("retry", _jobs_retry, "run a failed job again"),
        ("radiomics", _jobs_radiomics, "the numbers of a job's radiomics reports, as CSV (--json: as JSON)"),
    ):
        add(jobs, name, function, text).add_argument("job")

    models = commands.add_parser("models", help="install, convert, list, check and remove models")
    models_cli.add_commands(models.add_subparsers(required=True), common, _models)

    rules = commands.add_parser("rules", help="which series get what").add_subparsers(required=True)
    add(rules, "test", _rules_test, "which rule takes each series of a folder, and why not").add_argument(
        "directory", type=Path
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
