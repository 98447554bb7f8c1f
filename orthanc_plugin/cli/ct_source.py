"""Where the commands that compare and measure find CTs, and the rule that says how to read them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Desk

if TYPE_CHECKING:
    from orthanc_plugin.archive.protocol import Archive
    from orthanc_plugin.config.rule import Rule


def source_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say where CTs come from."""
    source = command.add_mutually_exclusive_group()
    source.add_argument("--ct", type=Path, metavar="DIR", help="folder that holds the CTs, at any depth")
    source.add_argument("--archive", default="local", metavar="NAME", help="archive that holds them (default: local)")


@contextmanager
def opened(desk: Desk) -> Iterator[Archive]:
    """Open the folder of `--ct`, or the archive of `--archive`."""
    from orthanc_plugin.archive.folder import FolderArchive
    from orthanc_plugin.archive.opening import open_archive
    from orthanc_plugin.errors import ConfigError

    options = desk.options
    if options.ct is not None:
        if not options.ct.is_dir():
            raise ConfigError(f"{options.ct} is not a folder; name one that holds the CTs")
        yield FolderArchive(options.ct, options.out)
        return
    settings = desk.configuration.archives.get(options.archive)
    if settings is None:
        raise ConfigError(f"the configuration has no archive {options.archive}")
    desk.acts(What.EXPORT, archive=options.archive)
    with closing(open_archive(options.archive, settings)) as archive:
        yield archive


def chosen_rule(desk: Desk) -> Rule:
    """Return the rule of `--rule`, or the first one."""
    from orthanc_plugin.errors import ConfigError

    rules, name = desk.configuration.rules, desk.options.rule
    found = next((rule for rule in rules if name in ("", rule.name)), None)
    if found is None:
        raise ConfigError(f"no rule is called {name}" if name else "the configuration has no rule")
    return found
