"""Commands in the audit log: which person ran which command, on which series, and how it ended.

A command is recorded where a service has made a state directory. The person is the one who logged in at the computer
(`/proc/self/loginuid`, which sudo and su leave as it is), beside the account as which the command runs.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import Event, Outcome, Subject, What
from orthanc_plugin.cli.desk import Desk
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.config.sections import Configuration

WAY = "command"
_NOBODY_LOGGED_IN = 2**32 - 1


def record_deeds(desk: Desk, *, failed: bool) -> None:
    """Record what the command did; if that is impossible, say so. The last deed failed if the command did."""
    if not desk.deeds:
        return
    *before, last = desk.deeds
    events = [_event(desk, what, about) for what, about in before]
    events.append(_event(desk, *last, outcome=Outcome.FAILURE if failed else Outcome.SUCCESS))
    try:
        if desk.configuration.state_directory.is_dir():
            write(desk.configuration, events)
    except ConfigError as error:
        desk.tell(f"not recorded in the audit log: {error}")


def record_now(desk: Desk, what: What, about: Subject) -> None:
    """Record a deed before its result is shown; ConfigError if that is impossible."""
    write(desk.configuration, [_event(desk, what, about)])


def _event(desk: Desk, what: What, about: Subject, outcome: Outcome = Outcome.SUCCESS) -> Event:
    fields = asdict(about) | {"detail": about.detail or desk.options.words}
    return Event(datetime.now(UTC), what, who(), WAY, outcome=outcome, **fields)


def write(configuration: Configuration, events: Sequence[Event]) -> None:
    """Append events to the audit log; ConfigError if that is impossible."""
    from orthanc_plugin.audit.trail import Trail
    from orthanc_plugin.jobs.state import check_owner

    directory = configuration.state_directory
    try:
        with _as_owner(directory):
            check_owner(directory)
            Trail(directory, configuration.audit.key.get_secret_value()).append(*events)
    except OSError as error:
        raise ConfigError(f"the audit log cannot be written: {error.strerror}") from error


def who() -> str:
    """Name the person who logged in, and the account if it is another."""
    account, person = _name(os.getuid()), _logged_in()
    return account if person in ("", account) else f"{person} as {account}"


def _logged_in() -> str:
    try:
        user = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return ""
    return "" if user == _NOBODY_LOGGED_IN else _name(user)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


@contextmanager
def _as_owner(directory: Path) -> Iterator[None]:
    """Let root write as the owner of the state directory: a file of root would keep the service out."""
    if os.geteuid() != 0 or not directory.is_dir():
        yield
        return
    owner, group = directory.stat(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
