"""The base of all bodies of the API, and the parts that several of them share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]
Name = Annotated[str, Field(max_length=64)]


class Shape(BaseModel):
    """Base of all answers, filled from our own records."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Unit(Shape):
    """A UCUM unit."""

    value: str
    meaning: str
