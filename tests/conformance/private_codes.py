"""List every code of the private scheme that the package can write; as a program, print the rows of the page."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from orthanc_plugin import codes
from orthanc_plugin.codes import PRIVATE_SCHEME, Code

ROOMS = ("results", "radiomics", "quality", "validation")
"""Rooms of the package that declare private codes."""


def private_codes() -> dict[str, str]:
    """Map code values to meanings, from all constants of the rooms."""
    modules = [codes, *(module for room in ROOMS for module in _modules(f"orthanc_plugin.{room}"))]
    found = {code for module in modules for code in _codes(vars(module), set()) if code.scheme == PRIVATE_SCHEME}
    assert len({code.value for code in found}) == len(found), "one value has two meanings"
    return {code.value: code.meaning for code in sorted(found, key=lambda code: code.value)}


def _modules(room: str) -> Iterator[object]:
    package = importlib.import_module(room)
    return (importlib.import_module(name) for _, name, _ in pkgutil.walk_packages(package.__path__, f"{room}."))


def _codes(value: object, seen: set[int]) -> Iterator[Code]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Code):
        yield value
    elif isinstance(value, Mapping):
        for part in (*value, *value.values()):
            yield from _codes(part, seen)
    elif isinstance(value, tuple | list | set | frozenset):
        for part in value:
            yield from _codes(part, seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _codes(getattr(value, each.name), seen)


if __name__ == "__main__":
    for name, meaning in private_codes().items():
        print(f"| `{name}` | {meaning} |")
