"""Records that are stored as JSON: job arguments, step results, and columns and notes of the job database.

The dataclass is the only declaration of a record. A field that a stored text lacks takes its default, so texts that an
earlier version wrote can still be read.
"""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import TypeAdapter


class JsonRecord:
    """Base of the frozen dataclasses that are stored as JSON."""

    __slots__ = ()

    def to_json(self) -> str:
        """Write the record as JSON with sorted keys.

        Raises
        ------
        ValueError
            If a number is not finite.
        """
        return json.dumps(_adapter(type(self)).dump_python(self, mode="json"), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a record that `to_json` wrote, now or in an earlier version.

        Raises
        ------
        ValueError
            If the text is not such a record.
        """
        record: Self = _adapter(cls).validate_json(text)
        return record


def _adapter(record: type[JsonRecord]) -> TypeAdapter[Any]:
    if record not in _adapters:
        _adapters[record] = TypeAdapter(record)
    return _adapters[record]


_adapters: dict[type[JsonRecord], TypeAdapter[Any]] = {}
