"""The command `orthanc-enrich demo`: it starts an Orthanc, sends it a CT and shows what comes back."""

from __future__ import annotations

from pathlib import Path

from orthanc_plugin.cli.desk import Commands, Desk, models_option


def add_commands(commands: Commands) -> None:
    """Add `demo`."""
    sub = commands.add("demo", run, "start an Orthanc, send it a CT, show what comes back")
    sub.add_argument("ct", nargs="?", type=Path, help="folder of CT files (default: a phantom)")
    sub.add_argument("--exit", action="store_true", help="stop when the results are there")
    sub.add_argument("--directory", type=Path, default=Path(".demo"), help="where the demo keeps its data")
    sub.add_argument("--model", help="model to show: its name, its folder, or published weights (folder or zip)")
    models_option(sub)
    sub.add_argument("--allow-test-model", action="store_true", help="run a test model on patients too")


def run(desk: Desk) -> int:
    """Run the demo."""
    from orthanc_plugin.cli.demo_model import ShownModel
    from orthanc_plugin.cli.demo_run import run_demo

    options, directory = desk.options, desk.models_directory
    return run_demo(
        options.ct,
        directory=options.directory,
        stay=not options.exit,
        json_output=options.json,
        console=desk.console,
        shown=ShownModel(options.model, directory, options.allow_test_model) if options.model else None,
        models_directory=directory,
    )
