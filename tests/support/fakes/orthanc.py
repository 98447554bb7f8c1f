"""Fake of the module `orthanc`: records what the plugin registers and logs, answers RestApiGet from a dict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


class OrthancException(Exception):
    """An error of Orthanc's core."""


class ChangeType:
    """Numbers as in Python plugin 4.0."""

    STABLE_SERIES, ORTHANC_STARTED, ORTHANC_STOPPED = 8, 10, 11


@dataclass
class RestOutput:
    """Answer to one request."""

    status: int = 200
    body: str = ""
    mime_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def AnswerBuffer(self, answer: str, mime_type: str) -> None:
        self.body, self.mime_type = answer, mime_type

    def SendHttpStatusCode(self, status: int) -> None:
        self.status = status

    def SendMethodNotAllowed(self, allowed: str) -> None:
        self.status, self.headers["Allow"] = 405, allowed

    def SetHttpHeader(self, name: str, value: str) -> None:
        self.headers[name] = value


class FakeOrthanc(ModuleType):
    """One Orthanc with the given orthanc.json content and REST answers."""

    OrthancException, ChangeType = OrthancException, ChangeType

    def __init__(self, configuration: str) -> None:
        super().__init__("orthanc")
        self.configuration = configuration
        self.answers: dict[str, object] = {
            "/changes?last": {"Last": 0},
            "/changes?since=0&limit=100": {"Changes": []},
        }
        self.properties: dict[int, str] = {}
        self.log: list[str] = []
        self.routes: dict[str, Callable[..., Any]] = {}
        self.on_change: Callable[[int, int, str], None] | None = None
        self.explorer = ""

    def GetConfiguration(self) -> str:
        return self.configuration

    def GetGlobalProperty(self, property: int, default: str) -> str:
        return self.properties.get(property, default)

    def SetGlobalProperty(self, property: int, value: str) -> None:
        self.properties[property] = value

    def LogError(self, message: str) -> None:
        self.log.append("E " + message)

    def LogWarning(self, message: str) -> None:
        self.log.append("W " + message)

    def RegisterOnChangeCallback(self, callback: Callable[[int, int, str], None]) -> None:
        self.on_change = callback

    def RegisterRestCallback(self, path_regex: str, callback: Callable[..., Any]) -> None:
        self.routes[path_regex] = callback

    def ExtendOrthancExplorer(self, javascript: str) -> None:
        self.explorer = javascript

    def RestApiGet(self, path: str) -> bytes:
        if path not in self.answers:
            raise OrthancException("Unknown resource")
        return json.dumps(self.answers[path]).encode()

    def get(self, path: str, **request: Any) -> RestOutput:
        """Call a registered route as Orthanc does; 404 if there is none."""
        output = RestOutput()
        found = ((callback, re.fullmatch(regex, path)) for regex, callback in self.routes.items())
        callback, match = next((pair for pair in found if pair[1]), (None, None))
        if callback is None or match is None:
            output.status = 404
        else:
            callback(output, path, **{"method": "GET", "headers": {}, "get": {}, "groups": match.groups(), **request})
        return output
