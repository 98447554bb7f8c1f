"""The schema looked at from outside: keys and sections of pydantic models by their names in orthanc.json."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def fields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The keys of a section, as orthanc.json writes them."""
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def model_in(annotation: object) -> type[BaseModel] | None:
    """The section inside an annotation such as `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part))), None)
