"""The base of all bodies of the API, and the parts that several of them share."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]
Name = Annotated[str, Field(max_length=64)]
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""All but those that end a line or a word."""


class Shape(BaseModel):
    """Base of all answers, filled from our own records."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Body(BaseModel):
    """Base of all bodies that callers send.

    A text with a control character is refused: to a database, a text may end at a NUL, so that a search for it finds
    everything.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        if _holds_control(self.model_dump()):
            raise ValueError("a text holds a control character; remove it")
        return self


def _holds_control(value: object) -> bool:
    if isinstance(value, str):
        return _CONTROL.search(value) is not None
    if isinstance(value, dict):
        return any(_holds_control(one) for pair in value.items() for one in pair)
    return isinstance(value, list | tuple) and any(map(_holds_control, value))


class Unit(Shape):
    """A UCUM unit."""

    value: str
    meaning: str
