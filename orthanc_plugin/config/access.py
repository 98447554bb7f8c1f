"""Who may do what: roles of users and groups, proxies that log people in, sessions, and the lockout."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from orthanc_plugin.config.base import Secret, Settings

_LARGEST_V4, _LARGEST_V6 = 16, 48
_SHORTEST_SECRET = 24


class Role(StrEnum):
    """What a person may do; each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def _network(text: str) -> str:
    """Refuse a network so large that trusting it would trust strangers."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("not an address or network") from None
    if network.prefixlen < (_LARGEST_V4 if network.version == 4 else _LARGEST_V6):
        raise ValueError(f"larger than /{_LARGEST_V4} (IPv6: /{_LARGEST_V6}): name the proxies themselves")
    return text


Network = Annotated[str, AfterValidator(_network)]
Names = tuple[Annotated[str, Field(min_length=1, max_length=128)], ...]
_HEADER = r"^([Xx]-[A-Za-z0-9-]{1,60}|[Rr]emote-[A-Za-z0-9-]{1,60})?$"
_USERS, _GROUPS = "a list of names of users", "a list of names of groups"
_HEADER_TEXT = "the name of a header that begins with X- or Remote-, or empty"


class AccessSettings(Settings):
    """Roles, and the ways in."""

    viewers: Names = Field(default=(), description=_USERS)
    operators: Names = Field(default=(), description=_USERS)
    admins: Names = Field(default=(), description=_USERS)
    viewer_groups: Names = Field(default=(), description=_GROUPS)
    operator_groups: Names = Field(default=(), description=_GROUPS)
    admin_groups: Names = Field(default=(), description=_GROUPS)
    others: Literal["", "none", "viewer", "operator", "admin"] = Field(
        default="", description='"none", "viewer", "operator", "admin", or empty: none if anybody is named, else admin'
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="a list of addresses or networks, none larger than /16 (IPv6: /48)"
    )
    user_header: str = Field(default="", pattern=_HEADER, description=_HEADER_TEXT)
    groups_header: str = Field(default="", pattern=_HEADER, description=_HEADER_TEXT)
    proxy_secret: Secret = Field(
        default=SecretStr(""), description=f"a text of {_SHORTEST_SECRET} characters or more, or empty"
    )
    login: Literal["basic", "form"] = Field(default="basic", description='"basic" or "form"')
    session_minutes: int = Field(default=30, ge=1, le=1440, description="minutes, 1 to 1440")
    session_hours: int = Field(default=12, ge=1, le=168, description="hours, 1 to 168")
    max_failures: int = Field(default=10, ge=3, le=1000, description="3 to 1000")
    lockout_s: float = Field(default=300.0, alias="LockoutSeconds", ge=1, le=86400, description="seconds, 1 to 86400")

    @property
    def names_anybody(self) -> bool:
        """Whether any user or group has a role."""
        return any((self.viewers, self.operators, self.admins, self.viewer_groups, self.operator_groups,
                    self.admin_groups))  # fmt: skip

    def role_of(self, user: str, groups: frozenset[str] = frozenset()) -> Role | None:
        """Return the highest role of a user and its groups; None if it may not enter."""
        named = ((Role.ADMIN, self.admins, self.admin_groups), (Role.OPERATOR, self.operators, self.operator_groups),
                 (Role.VIEWER, self.viewers, self.viewer_groups))  # fmt: skip
        for role, users, of_groups in named:
            if user in users or not groups.isdisjoint(of_groups):
                return role
        others = self.others or ("none" if self.names_anybody else "admin")
        return None if others == "none" else Role(others)

    @model_validator(mode="after")
    def _no_trust_by_mistake(self) -> AccessSettings:
        if (self.user_header or self.proxy_secret.get_secret_value()) and not self.trusted_proxies:
            raise ValueError(
                "UserHeader and ProxySecret need TrustedProxies: from any other address, anybody could write the header"
            )
        if self.groups_header and not self.user_header:
            raise ValueError("GroupsHeader needs UserHeader")
        if (self.viewer_groups or self.operator_groups or self.admin_groups) and not self.groups_header:
            raise ValueError("ViewerGroups, OperatorGroups and AdminGroups need GroupsHeader")
        if 0 < len(self.proxy_secret.get_secret_value()) < _SHORTEST_SECRET:
            raise ValueError(f"ProxySecret needs {_SHORTEST_SECRET} characters or more")
        if self.user_header and not self.names_anybody and self.others not in ("none", "viewer"):
            raise ValueError(
                "with UserHeader, everybody whom the proxy logs in would be an admin: name users or groups, or set"
                ' Others to "viewer"'
            )
        return self

    @model_validator(mode="after")
    def _one_role_each(self) -> AccessSettings:
        for lists in ((self.viewers, self.operators, self.admins),
                      (self.viewer_groups, self.operator_groups, self.admin_groups)):  # fmt: skip
            names = [name for one in lists for name in one]
            if len(names) > len(set(names)):
                raise ValueError("a user or group has two roles: name each once")
        return self
