"""The table of all routes: which right each needs. The gate, the tests and the documentation read this one table.

A route that is not here needs the rights of an admin, unless it only reads a file of the viewer. A test fails for a
route of the application that has no line of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from orthanc_plugin.config.access import Role

API = "/enrichment/api/v1"
LOGIN_PATH, LOGOUT_PATH = "/enrichment/login", "/enrichment/logout"


class Right(StrEnum):
    """What a caller may do. A token has rights of its own; a person has those of the role."""

    WATCH = "watch"
    VIEW = "view"
    EXPORT = "export"
    PATIENT = "patient"
    ACT = "act"
    STORE = "store"
    DELETE = "delete"
    SETTINGS = "settings"


MEANING = {
    Right.WATCH: "read health and metrics",
    Right.VIEW: "see series, jobs, results and images",
    Right.EXPORT: "download tables of radiomics",
    Right.PATIENT: "ask who a patient is, and search by patient",
    Right.ACT: "retry, cancel and order work, try rules and inspect series",
    Right.STORE: "store objects by DICOMweb",
    Right.DELETE: "withdraw results, and delete by DICOMweb",
    Right.SETTINGS: "pause and resume, and try webhooks",
}
_VIEWER = frozenset({Right.WATCH, Right.VIEW, Right.EXPORT, Right.PATIENT})
_OPERATOR = _VIEWER | {Right.ACT, Right.STORE}
RIGHTS = {Role.VIEWER: _VIEWER, Role.OPERATOR: _OPERATOR, Role.ADMIN: frozenset(Right)}


@dataclass(frozen=True)
class Permission:
    """A line of the table. path: as Starlette writes it; methods: empty for all others."""

    methods: tuple[str, ...]
    path: str
    right: Right

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = re.split(r"(\{[a-z]+(?::path)?\})", self.path)
        return re.compile("".join(_part(part) for part in parts))

    def fits(self, method: str, path: str) -> bool:
        """Tell whether a request is one of this line."""
        return (not self.methods or method in self.methods) and self._pattern.fullmatch(path) is not None

    @property
    def lowest(self) -> Role:
        """The lowest role that has the right."""
        return next(role for role in Role if self.right in RIGHTS[role])


def _part(text: str) -> str:
    if text.endswith(":path}"):
        return ".*"
    return "[^/]*" if text.startswith("{") else re.escape(text)


def _lines(methods: str, right: Right, *paths: str) -> tuple[Permission, ...]:
    return tuple(Permission(tuple(methods.split()), path, right) for path in paths)


_READ = "GET HEAD"
PERMISSIONS = (
    *_lines(_READ, Right.EXPORT, *(f"{API}/jobs/{{id}}/radiomics.{kind}" for kind in ("csv", "json", "parquet"))),
    *_lines(_READ, Right.ACT, f"{API}/inspect", f"{API}/inspect/picture.png", f"{API}/rules/compare"),
    *_lines(_READ, Right.WATCH, f"{API}/health", "/enrichment/metrics"),
    *_lines(
        _READ, Right.VIEW,
        "/enrichment/", "/enrichment/jobs/{id}", "/enrichment/jobs/{id}/pictures", "/enrichment/jobs/{id}/radiomics",
        "/enrichment/jobs/{id}/objects", "/enrichment/jobs/{id}/corrections", "/enrichment/series/{series}",
        "/enrichment/deliveries",
        "/enrichment/backfill", "/enrichment/system", "/enrichment/rules", "/enrichment/rules/verdicts",
        "/enrichment/rules/comparison", "/enrichment/static/{path:path}", "/enrichment/api/",
        "/enrichment/api/openapi.json", "/enrichment/open", f"{API}/events", f"{API}/jobs",
        f"{API}/jobs/{{id}}", f"{API}/jobs/{{id}}/scan", f"{API}/jobs/{{id}}/slices/{{plane}}/{{index}}.png",
        f"{API}/jobs/{{id}}/preview.png", f"{API}/deliveries", f"{API}/backfills", f"{API}/series",
        f"{API}/webhooks",
    ),
    *_lines("POST", Right.PATIENT, f"{API}/patients", f"{API}/find", "/enrichment/find"),
    *_lines(
        "POST", Right.ACT,
        f"{API}/jobs/{{id}}/retry", f"{API}/jobs/{{id}}/cancel", f"{API}/jobs/{{id}}/deliveries/{{destination}}/retry",
        f"{API}/jobs/{{id}}/deliveries/{{destination}}/cancel", f"{API}/deliveries/{{subject}}/{{destination}}/retry",
        f"{API}/deliveries/{{subject}}/{{destination}}/cancel", f"{API}/retry", f"{API}/decide-again",
        f"{API}/backfills", f"{API}/backfills/{{order}}/stop", f"{API}/series/act", f"{API}/rules/compare",
        "/enrichment/rules/files",
    ),
    *_lines("POST", Right.DELETE, f"{API}/jobs/{{id}}/withdraw"),
    *_lines("POST", Right.SETTINGS, f"{API}/pause", f"{API}/resume", f"{API}/webhooks/{{name}}/test"),
    *_lines("GET HEAD OPTIONS", Right.VIEW, "/dicom-web/studies{path:path}", "/dicom-web/series{path:path}",
            "/dicom-web/instances{path:path}"),
    *_lines("POST", Right.STORE, "/dicom-web/studies", "/dicom-web/studies/{study}"),
    *_lines("", Right.DELETE, "/dicom-web/{path:path}"),
    *_lines("GET HEAD OPTIONS", Right.VIEW, "/{path:path}"),
)  # fmt: skip
"""The first line that fits a request counts."""


def is_open_to_all(method: str, path: str) -> bool:
    """Tell whether a request belongs to the login itself, where people log in by the form."""
    is_static = path.startswith("/enrichment/static/") and method in _READ.split()
    return is_static or path in (LOGIN_PATH, LOGOUT_PATH)


def right_for(method: str, path: str) -> Right:
    """Return the right that a request needs; what no line fits needs the highest."""
    return next((line.right for line in PERMISSIONS if line.fits(method, path)), Right.SETTINGS)
