"""Who calls, and from where: a user of Orthanc, a session, a token of the API, or whom a trusted proxy logged in."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from orthanc_plugin.config.access import AccessSettings, Role
from orthanc_plugin.service.permissions import RIGHTS, Right

PROXY_SECRET_HEADER = "x-enrichment-proxy-secret"  # noqa: S105 (the header's name, not a secret)
_LONGEST_NAME = 128


class Way(StrEnum):
    """How a caller proved who it is."""

    OPEN = "open"
    PASSWORD = "password"  # noqa: S105 (a word, not a secret)
    SESSION = "session"
    TOKEN = "token"  # noqa: S105
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. role: None for a token, which has rights of its own, and for those who have none."""

    name: str
    way: Way
    rights: frozenset[Right]
    role: Role | None = None
    address: str = ""

    def may(self, right: Right) -> bool:
        """Tell whether the caller has a right."""
        return right in self.rights


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Who makes the request that is being answered, for what every page says of them."""


def person(name: str, way: Way, role: Role | None, address: str = "") -> Caller:
    """Make the caller of a person with a role."""
    return Caller(name, way, RIGHTS[role] if role else frozenset(), role, address)


def caller_of(request: Request) -> Caller:
    """Return who calls; nobody, with no rights, where no gate has looked."""
    found = request.scope.get("caller")
    return found if isinstance(found, Caller) else person("nobody", Way.OPEN, None)


def name_in(authorization: bytes) -> str:
    """Return the user in an Authorization header of the scheme Basic; `nobody` where there is none."""
    scheme, _, given = authorization.decode("latin-1").partition(" ")
    if scheme.lower() != "basic":
        return "of a token" if scheme else "nobody"
    try:
        name = base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[0]
    except (binascii.Error, ValueError):
        return "unknown"
    return printable(name)


def printable(name: str) -> str:
    """Write a name so that it forges no line of a log."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:_LONGEST_NAME]


class Proxies:
    """What the settings say of proxies, applied to requests.

    Parameters
    ----------
    settings : AccessSettings
    """

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._networks = [ipaddress.ip_network(text) for text in settings.trusted_proxies]

    def trusts(self, address: str) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        return _is_in(address, tuple(self._networks))

    def address_of(self, scope: Scope) -> str:
        """Return where a request comes from: behind trusted proxies, the last address that is not one of them."""
        address = str((scope.get("client") or ("",))[0])
        if not self.trusts(address):
            return address
        forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
        for hop in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
            if not self.trusts(hop):
                return printable(hop)
        return address

    def is_encrypted(self, scope: Scope) -> bool:
        """Tell whether the browser reached us by TLS; a wrong claim harms only who makes it."""
        told = Headers(scope=scope).get("x-forwarded-proto", scope["scheme"])
        return told.partition(",")[0].strip().lower() == "https"

    def user_of(self, scope: Scope) -> Caller | None:
        """Return whom a trusted proxy logged in; None if the request does not come from one, or names nobody.

        Raises
        ------
        ValueError
            If the proxy lets callers add names of their own, or lacks the secret that it shares with us.
        """
        settings, headers = self._settings, Headers(scope=scope)
        if not settings.user_header or not self.trusts(str((scope.get("client") or ("",))[0])):
            return None
        names = [_text(name) for name in headers.getlist(settings.user_header)]
        if not names:
            return None
        secret = settings.proxy_secret.get_secret_value()
        given = headers.get(PROXY_SECRET_HEADER, "")
        if secret and not hmac.compare_digest(given.encode("latin-1"), secret.encode()):
            raise ValueError("the proxy does not know Access.ProxySecret")
        if len(names) > 1 or not names[0].strip() or printable(names[0]) != names[0]:
            raise ValueError("the proxy must send exactly one name of a user")
        listed = (
            ",".join(_text(value) for value in headers.getlist(settings.groups_header))
            if settings.groups_header
            else ""
        )
        groups = frozenset(part.strip() for part in listed.split(",") if part.strip())
        name = names[0].strip()
        return person(name, Way.PROXY, settings.role_of(name, groups), self.address_of(scope))


def _text(value: str) -> str:
    """Read a header that Starlette decoded as Latin-1; proxies send names in UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@lru_cache(maxsize=1000)
def _is_in(address: str, networks: _Networks) -> bool:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in networks)
