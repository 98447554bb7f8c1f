"""Tokens of the API: random secrets with rights of their own, of which the database keeps only a digest."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from orthanc_plugin.errors import EnrichError

PREFIX = "enrich_"
_WRITTEN = re.compile(r"enrich_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_schema = sa.MetaData()
_tokens = sa.Table(
    "enrichment_tokens",
    _schema,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("rights", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Text, nullable=False),
    sa.Column("revoked_at", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed. expires_at, revoked_at: None for never."""

    id: str
    name: str
    rights: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Tell whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Tokens:
    """The table of tokens; a missing table is created.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Engine of the job database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        _schema.create_all(engine)

    def create(self, name: str, rights: Iterable[str], days: int = 0, now: datetime | None = None) -> tuple[Token, str]:
        """Make a token, and return it with its text, which nobody can read again.

        Parameters
        ----------
        name : str
            What it is for; the audit log names it.
        rights : iterable of str
        days : int
            After how many days it expires; 0 for never.
        now : datetime, optional
        """
        moment = now or datetime.now(UTC)
        identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        expires = (moment + timedelta(days=days)).isoformat() if days else ""
        row = {
            "id": identity, "name": name, "digest": _digest(secret), "rights": " ".join(rights),
            "created_at": moment.isoformat(), "expires_at": expires, "revoked_at": "",
        }  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_tokens).values(row))
        return self._read(identity), f"{PREFIX}{identity}_{secret}"

    def all(self) -> tuple[Token, ...]:
        """Return all tokens, the oldest first."""
        with self._engine.connect() as connection:
            return tuple(map(_token, connection.execute(sa.select(_tokens).order_by(_tokens.c.created_at))))

    def revoke(self, identity: str, now: datetime | None = None) -> Token:
        """End a token at once.

        Raises
        ------
        EnrichError
            If there is no such token, or it was revoked before.
        """
        moment = (now or datetime.now(UTC)).isoformat()
        same = sa.and_(_tokens.c.id == identity, _tokens.c.revoked_at == "")
        with self._engine.begin() as connection:
            if not connection.execute(sa.update(_tokens).where(same).values(revoked_at=moment)).rowcount:
                raise EnrichError("there is no such token, or it was revoked before")
        return self._read(identity)

    def find(self, text: str, now: datetime | None = None) -> Token | None:
        """Return the token with this text; None if there is none, or it is not valid now."""
        if (written := _WRITTEN.fullmatch(text)) is None:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_tokens).where(_tokens.c.id == written[1])).first()
        if row is None or not hmac.compare_digest(row.digest, _digest(written[2])):
            return None
        token = _token(row)
        return token if token.is_valid(now or datetime.now(UTC)) else None

    def _read(self, identity: str) -> Token:
        with self._engine.connect() as connection:
            return _token(connection.execute(sa.select(_tokens).where(_tokens.c.id == identity)).one())


def _digest(secret: str) -> str:
    """Digest a secret; of 256 random bits, so that it needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(row.id, row.name, tuple(row.rights.split()), datetime.fromisoformat(row.created_at),
                 _moment(row.expires_at), _moment(row.revoked_at))  # fmt: skip


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
