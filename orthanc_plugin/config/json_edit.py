"""Change single values in the text of a settings file, and leave everything else as its author wrote it.

Orthanc's files hold comments and trailing commas, which a JSON library would drop. This module finds the place of a
value in the text, and replaces, adds or removes just that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orthanc_plugin.config.orthanc_json import extra_commas, parse_json, without_comments

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object. start, value, end: where its key begins, and its value, and where that ends."""

    key: str
    start: int
    value: int
    end: int


def get_value(text: str, path: Sequence[str], default: Any = None) -> Any:
    """Return the value under a path of keys."""
    value: Any = parse_json(text)
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def set_value(text: str, path: Sequence[str], value: object) -> str:
    """Set the value under a path of keys; objects on the way that do not exist are added.

    Raises
    ------
    ValueError
        If the text is not valid JSON, or something on the way is not an object.
    """
    parse_json(text)
    plain = without_comments(text)
    opened, members = _object(plain, plain.index("{"))
    for depth, key in enumerate(path):
        member = next((member for member in members if member.key == key), None)
        if member is None:
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _added(text, opened, members, key, value, depth + 1)
        if depth == len(path) - 1:
            return text[: member.value] + json.dumps(value) + text[member.end :]
        if plain[member.value] != "{":
            raise ValueError(f"{key} is not an object")
        opened, members = _object(plain, member.value)
    raise ValueError("no key is named")


def remove_value(text: str, path: Sequence[str]) -> str:
    """Remove a member and the comma that it leaves over; comments beside it stay."""
    plain = without_comments(text)
    _, members = _object(plain, plain.index("{"))
    for key in path[:-1]:
        parent = next((member for member in members if member.key == key), None)
        if parent is None or plain[parent.value] != "{":
            return text
        _, members = _object(plain, parent.value)
    number = next((n for n, member in enumerate(members) if member.key == path[-1]), None)
    if number is None:
        return text
    start, end = members[number].start, members[number].end
    comma = _comma_after(text, plain, end)
    if comma is not None:
        return text[:start] + text[end:comma] + text[comma + 1 :]
    before = plain.rindex(",", 0, start) if number else start
    return text[:before] + text[before + 1 if number else before : start] + text[end:]


def _comma_after(text: str, plain: str, end: int) -> int | None:
    """Return the place of the comma that follows a value, also of one that is one too many."""
    following = _next(plain, end)
    if following and following[0] == ",":
        return following.start()
    stop = following.start() if following else len(text)
    return next((comma for comma in extra_commas(text) if end <= comma < stop), None)


def _added(text: str, opened: int, members: list[_Member], key: str, value: object, depth: int) -> str:
    """Add a member as the first of its object, in front of the comments that belong to the present first."""
    indent = "  " * depth
    written = json.dumps(value, indent=2).replace("\n", "\n" + indent)
    comma = "," if members else ""
    return f"{text[: opened + 1]}\n{indent}{json.dumps(key)} : {written}{comma}{text[opened + 1 :]}"


def _object(plain: str, opened: int) -> tuple[int, list[_Member]]:
    """Return where an object begins, and its members."""
    return opened, list(_members(plain, opened + 1))


def _members(plain: str, at: int) -> Iterator[_Member]:
    while (token := _next(plain, at)) and token[0] != "}":
        if token[0] == ",":
            at = token.end()
            continue
        colon = _next(plain, token.end())
        value = _next(plain, colon.end()) if colon else None
        if value is None:
            return
        at = _end_of_value(plain, value)
        yield _Member(json.loads(token[0], strict=False), token.start(), value.start(), at)


def _end_of_value(plain: str, value: re.Match[str]) -> int:
    depth, token = 0, value
    while True:
        depth += (token[0] in "{[") - (token[0] in "}]")
        if depth == 0:
            return token.end()
        following = _next(plain, token.end())
        if following is None:
            return token.end()
        token = following


def _next(plain: str, at: int) -> re.Match[str] | None:
    return _TOKEN.search(plain, at)
