"""The commands of `orthanc-enrich tokens`: make, list and revoke tokens of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk

if TYPE_CHECKING:
    from orthanc_plugin.jobs.tokens import Tokens

_LONGEST_NAME = 64
_MOST_DAYS = 36_500


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    made = commands.add("create", create, "make a token of the API and print it once")
    made.add_argument("name", help="what it is for; the audit log names it")
    rights = "watch, view, export, patient, act, store, delete, settings"
    made.add_argument("--right", action="append", default=[], metavar="RIGHT", help=f"a right, several times: {rights}")
    made.add_argument("--days", type=int, default=0, metavar="N", help="expire after N days (default: 0, never)")
    commands.add("list", list_tokens, "list the tokens, without their secrets")
    revoked = commands.add("revoke", revoke, "end a token at once")
    revoked.add_argument("id", help="id of the token, as listed")


def create(desk: Desk) -> None:
    """Make a token."""
    from orthanc_plugin.errors import ConfigError
    from orthanc_plugin.service.permissions import Right

    desk.acts(What.SETTINGS)
    options = desk.options
    unknown = sorted(set(options.right) - set(Right))
    if not 0 <= options.days <= _MOST_DAYS:
        raise ConfigError(f"--days {options.days}: a token is valid for 1 to {_MOST_DAYS} days, or 0 for ever")
    if not options.right or unknown or not 1 <= len(options.name) <= _LONGEST_NAME:
        raise ConfigError(
            f"a token needs a name of 1 to {_LONGEST_NAME} characters and at least one --right of {', '.join(Right)}"
        )
    token, text = _tokens(desk).create(options.name, sorted(set(options.right)), options.days)
    desk.acts(What.SETTINGS, detail=f"tokens create {token.id}")
    desk.say({"id": token.id, "token": text}, text)


def list_tokens(desk: Desk) -> None:
    """List the tokens."""
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    tokens = _tokens(desk).all()
    if desk.options.json:
        desk.print_json([{"id": t.id, "name": t.name, "rights": t.rights, "created_at": t.created_at,
                          "expires_at": t.expires_at, "revoked_at": t.revoked_at, "valid": t.is_valid(now)}
                         for t in tokens])  # fmt: skip
        return
    for token in tokens:
        end = "revoked" if token.revoked_at else f"until {token.expires_at:%Y-%m-%d}" if token.expires_at else "no end"
        line = f"{token.id}  {token.name}: {', '.join(token.rights)} ({end})"
        desk.console.print(line, soft_wrap=True, markup=False)


def revoke(desk: Desk) -> None:
    """End a token."""
    desk.acts(What.SETTINGS)
    token = _tokens(desk).revoke(desk.options.id)
    desk.acts(What.SETTINGS, detail=f"tokens revoke {token.id}")
    desk.say({"revoked": token.id, "name": token.name})


def _tokens(desk: Desk) -> Tokens:
    from orthanc_plugin.jobs.database import open_engine
    from orthanc_plugin.jobs.state import check_database
    from orthanc_plugin.jobs.tokens import Tokens

    check_database(desk.configuration)
    return Tokens(open_engine(desk.configuration.database))
