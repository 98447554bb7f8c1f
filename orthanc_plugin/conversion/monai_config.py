"""Read the configuration of a MONAI bundle: follow its references, and run nothing of it.

A value that begins with `$` is a Python expression, one with `@` refers to a value elsewhere. Of expressions, those
that only choose between values are read (`$[1, 1] if @high else [2, 2]`, `$not @raw`); all others are refused by name.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from orthanc_plugin.errors import ModelError

Json = Mapping[str, Any]

_REFERENCE = re.compile(r"@[A-Za-z_][\w:#]*")
_DEEPEST = 50
"""References that follow one another; more are a circle."""


def read_config(file: Path) -> Json:
    """Read a JSON or YAML file that holds one object.

    Raises
    ------
    ModelError
        Naming the file.
    """
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    try:
        content = read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if file.suffix == ".json" else "YAML"
        raise ModelError(f"{file.name} cannot be read ({type(error).__name__}); it must be a {kind} file") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file.name} must hold an object")
    return content


def short_name(step: Json) -> str:
    """Give the name of a step's class, without its module."""
    return str(step.get("_target_", "")).rpartition(".")[2]


class Config:
    """The content of inference.json, or of a YAML file with the same keys."""

    def __init__(self, content: Json, name: str = "inference.json") -> None:
        self._content, self.name = content, name

    def error(self, text: str) -> ModelError:
        """Make an error that names the file."""
        return ModelError(f"{self.name}: {text}")

    def get(self, value: Any, where: str, depth: int = 0) -> Any:
        """Give a value without references and expressions.

        Raises
        ------
        ModelError
            If it has an expression or a macro that is not known, or refers to something that is not there.
        """
        if not isinstance(value, str):
            return value
        if depth > _DEEPEST:
            raise self.error(f"{where} refers to {value:.60}, which refers to itself")
        if value.startswith("$"):
            return self._evaluated(value, where, depth)
        if value.startswith("@"):
            return self.get(self._named(value, where), where, depth + 1)
        if value.startswith("%"):
            raise self.error(f"{where} is a macro ({value:.60}); write its value instead")
        return value

    def _named(self, reference: str, where: str) -> Any:
        found: Any = self._content
        for key in re.split(r"::|#", reference[1:]):
            match found:
                case Mapping():
                    found = found.get(key)
                case list() if key.isdecimal() and int(key) < len(found):
                    found = found[int(key)]
                case _:
                    found = None
        if found is None:
            raise self.error(f"{where} refers to {reference:.60}, which is not there")
        return found

    def _evaluated(self, text: str, where: str, depth: int) -> Any:
        references: list[str] = []

        def place(found: re.Match[str]) -> str:
            references.append(found[0])
            return f"_{len(references) - 1}"

        def value_of(node: ast.expr) -> Any:
            match node:
                case ast.Constant(bool() | int() | float() | str() | None as value):
                    return value
                case ast.List(items) | ast.Tuple(items):
                    return [value_of(item) for item in items]
                case ast.IfExp():
                    return value_of(node.body if value_of(node.test) else node.orelse)
                case ast.UnaryOp(ast.Not(), operand):
                    return not value_of(operand)
                case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
                    return -value
                case ast.Name(id) if id[1:].isdecimal() and int(id[1:]) < len(references):
                    return self.get(references[int(id[1:])], where, depth + 1)
            raise ValueError("a part that could do anything")

        try:
            return value_of(ast.parse(_REFERENCE.sub(place, text[1:].strip()), mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self.error(f"{where} is an expression ({text:.60}); write its value instead") from error

    def transforms(self, key: str, idle: frozenset[str]) -> Iterator[tuple[str, Json]]:
        """Yield short names (without the `d` of dictionary transforms) and settings of the transforms of a Compose.

        idle: names of transforms to pass over; those that are disabled are, too.
        """
        composed = self.get(self._content.get(key), key)
        if composed is None:
            raise self.error(f"there is no {key}")
        if not isinstance(composed, Mapping) or short_name(composed) != "Compose":
            raise self.error(f"{key} is not a Compose of transforms")
        steps = self.get(composed.get("transforms"), f"{key}.transforms")
        if not isinstance(steps, Sequence) or isinstance(steps, str):
            raise self.error(f"{key}.transforms is not a list")
        for index, one in enumerate(steps):
            where = f"{key}.transforms.{index}"
            step = self.get(one, where)
            if not isinstance(step, Mapping) or "_target_" not in step:
                raise self.error(f"{where} names no transform")
            disabled = self.get(step.get("_disabled_", False), f"{where}._disabled_")
            if disabled is True or str(disabled).lower() == "true":
                continue
            if (name := short_name(step).removesuffix("d")) not in idle:
                yield name, step

    def setting(self, step: Json, key: str, default: Any = None) -> Any:
        """Give one setting of a transform or inferer."""
        where = f"{short_name(step)}.{key}"
        value = self.get(step.get(key, default), where)
        return [self.get(one, where) for one in value] if isinstance(value, list) else value

    def number(self, step: Json, key: str, default: Any = None) -> float:
        """Give a setting that is a number."""
        return self._number(self.setting(step, key, default), step, key)

    def numbers(self, step: Json, key: str, count: int) -> list[float]:
        """Give a setting of so many numbers; one number stands for all of them, as in MONAI."""
        value = self.setting(step, key)
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count:
            raise self.error(f"{short_name(step)}.{key} must have {count} numbers, not {value!s:.60}")
        return [self._number(one, step, key) for one in values]

    def _number(self, value: Any, step: Json, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{short_name(step)}.{key} is {value!s:.60}; it must be a number")
        return float(value)

    def inferer(self) -> Json:
        """Give the section of the inferer."""
        found = self.get(self._content.get("inferer"), "inferer")
        if not isinstance(found, Mapping) or "_target_" not in found:
            raise self.error("there is no inferer")
        return found
