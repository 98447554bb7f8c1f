"""What every command shares: exit codes, the common options, the settings, and where results and messages go.

Results go to stdout (`--json` for machines), progress and messages to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orthanc_plugin.audit.event import Subject, What, subject
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.config.sections import Configuration

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG = 0, 1, 2, 78
_WIDTH_OF_A_FILE = 140


def _stdout() -> Console:
    """Return stdout; it is wide if it is not a terminal, so that no table is cut off in logs."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)


@dataclass(frozen=True)
class Desk:
    """What one command works with. console: stdout; messages: stderr; deeds: what it does, for the audit log."""

    options: argparse.Namespace
    console: Console = field(default_factory=_stdout)
    messages: Console = field(default_factory=lambda: Console(stderr=True))
    deeds: list[tuple[What, Subject]] = field(default_factory=list)

    @cached_property
    def configuration(self) -> Configuration:
        """The settings of `--config` or ENRICHMENT_CONFIG, or the defaults; the environment overrides them."""
        from orthanc_plugin.config.read import load_configuration, parse_section

        path = self.options.config or os.environ.get("ENRICHMENT_CONFIG")
        return load_configuration(Path(path), os.environ) if path else parse_section({}, os.environ)

    @property
    def models_directory(self) -> Path | None:
        """The operator's models: `--models`, otherwise `ModelsDirectory`."""
        named: Path | None = self.options.models
        return named or self.configuration.models_directory

    def needed_models_directory(self) -> Path:
        """Return `models_directory`, which must be set."""
        if self.models_directory is None:
            raise ConfigError("ModelsDirectory is not set; set it in the configuration, or add --models DIR")
        return self.models_directory

    def say(self, facts: Mapping[str, object], *lines: str) -> None:
        """Print facts: as JSON for machines, otherwise the lines, or one line for each fact."""
        if self.options.json:
            self.print_json(facts)
            return
        for line in lines or [f"{key}: {value}" for key, value in facts.items()]:
            self.console.print(line, soft_wrap=True, markup=False)

    def acts(
        self,
        what: What,
        *series: str,
        study: str = "",
        archive: str = "",
        job: str = "",
        count: int = 0,
        detail: str = "",
    ) -> None:
        """Let the audit log tell what the command does, as soon as the outcome is known; what is vague is replaced."""
        if self.deeds and self.deeds[-1][0] is what and not (self.deeds[-1][1].study or self.deeds[-1][1].series):
            self.deeds.pop()
        about = subject(*series, study=study, archive=archive, job=job, count=count, detail=detail)
        self.deeds.append((what, about))

    def print_json(self, value: object) -> None:
        """Print a value as JSON."""
        print(json.dumps(value, indent=2, default=str))

    def tell(self, text: str) -> None:
        """Print a message on the way to the result."""
        self.messages.print(text, soft_wrap=True, markup=False, highlight=False)


Command = Callable[[Desk], int | None]
"""Returns an exit code; None is EXIT_DONE."""


@dataclass(frozen=True)
class Commands:
    """A place in the command line to which commands are added."""

    parsers: argparse._SubParsersAction[argparse.ArgumentParser]

    def add(self, name: str, command: Command, text: str, *, config: str = "--config") -> argparse.ArgumentParser:
        """Add a command with the common options; `config` names the option for the settings file."""
        sub = self.parsers.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        sub.set_defaults(command=command, words=sub.prog.partition(" ")[2])
        sub.add_argument("--json", action="store_true", help="print machine-readable output on stdout")
        sub.add_argument(
            config,
            dest="config",
            type=Path,
            metavar="FILE",
            help="orthanc.json, or its folder (default: $ENRICHMENT_CONFIG)",
        )
        return sub

    def group(self, name: str, text: str) -> Commands:
        """Add a name that holds commands of its own."""
        sub = self.parsers.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        return Commands(sub.add_subparsers(required=True, metavar="COMMAND"))


def count(text: str) -> int:
    """Read a number of things from the command line: from 0, and no larger than any list or computer holds."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError("must be a number from 0 to 999999999")
    return int(text)


def unseen(text: str) -> str:
    """Return the value of an option, or a line of stdin for `-`: every user of a computer can see options of others."""
    return sys.stdin.readline().strip() if text == "-" else text


def models_option(sub: argparse.ArgumentParser, flag: str = "--models") -> None:
    """Add the option that names the folder of models."""
    text = "folder of models (default: ModelsDirectory)"
    sub.add_argument(flag, dest="models", type=Path, metavar="DIR", help=text)


def outcome_code(states: list[Any]) -> int:
    """Return EXIT_DONE if a series is done and none failed."""
    return EXIT_DONE if "done" in states and "failed" not in states else EXIT_FAILED
