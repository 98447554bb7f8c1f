"""The base of all bodies of the API, and the parts that several of them share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """Base of all answers, filled from our own records."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Unit(Shape):
    """A UCUM unit."""

    value: str
    meaning: str
