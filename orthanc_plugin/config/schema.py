"""The keys of the schema, by their names in orthanc.json."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo


def fields(model: type[Any] | None) -> dict[str, FieldInfo]:
    """Return the fields of a section by their keys in orthanc.json; none for None."""
    return {field.alias or name: field for name, field in model.__pydantic_fields__.items()} if model else {}


def model_in(annotation: object) -> type[Any] | None:
    """Return the section inside an annotation such as `X | None` or `dict[str, X]`, or None."""
    if isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__"):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part))), None)
