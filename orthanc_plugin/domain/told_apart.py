"""Name structures so that those of several models can be told apart."""

from __future__ import annotations

from collections.abc import Sequence


def told_apart(found: Sequence[tuple[str, str]], both: str = "{} ({})") -> tuple[str, ...]:
    """Name structures, each given with its model; the model follows a name that several models have.

    both: how name and model are written.
    """
    models: dict[str, set[str]] = {}
    for name, model in found:
        models.setdefault(name, set()).add(model)
    return tuple(both.format(name, model) if len(models[name]) > 1 else name for name, model in found)
