"""What is wrong with a configuration: key, value (never a password) and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orthanc_plugin.config.schema import fields, model_in
from orthanc_plugin.config.sections import SECTION, Configuration


def _field_at(keys: Sequence[int | str]) -> tuple[FieldInfo | None, dict[str, FieldInfo]]:
    """The last field on the way along these keys, and its neighbours."""
    model: type[BaseModel] | None = Configuration
    field, neighbours = None, fields(model)
    for key in keys:
        if key in fields(model):
            neighbours = fields(model)
            field = neighbours[str(key)]
            model = model_in(field.annotation)
    return field, neighbours


def problem(detail: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """One problem that pydantic found, as a line."""
    keys = [key for key in detail["loc"] if key != "[key]"]
    path = SECTION + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    note = "".join(f" ({text})" for where, text in notes.items() if (where + ".").startswith(path + "."))
    field, _ = _field_at(keys)
    allowed = f"; allowed: {field.description}" if field else ""
    reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else ""
    match detail["type"]:
        case "extra_forbidden":
            parent, _ = _field_at(keys[:-1])
            known = fields(model_in(parent.annotation) if parent else Configuration)
            return f"{path}: unknown key{nearest(str(keys[-1]), known)}; allowed: {', '.join(known)}"
        case "missing":
            return f"{path}: is missing{allowed}{note}"
        case "value_error" if isinstance(detail["input"], Mapping):
            return f"{path}: {reason}{note}"
    value = "a value that is not shown" if _is_secret(keys) else shown(detail["input"])
    return f"{path}: {value} is not allowed{reason and f' ({reason})'}{allowed}{note}"


def _is_secret(keys: Sequence[int | str]) -> bool:
    return bool({"Database", "Password", "Secret", "User"} & set(keys))


def shown(value: object) -> str:
    """A value as JSON; of addresses never what may be an account or a token, of objects and lists nothing."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return json.dumps(re.sub(r"^.*@", "***@", value.partition("?")[0], flags=re.DOTALL)[:80], ensure_ascii=False)
    return json.dumps(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean "..."?` for a name that is close to a known one, else nothing."""
    close = difflib.get_close_matches(name.lower(), [key.lower() for key in known], n=1)
    return "".join(f', did you mean "{key}"?' for key in known if [key.lower()] == close)


def contradictions(configuration: Configuration) -> Iterator[str]:
    """What single values cannot show: names that point nowhere, rules that ask what an archive cannot tell."""
    archives = configuration.archives
    names = [rule.name for rule in configuration.rules]
    for number, rule in enumerate(configuration.rules):
        path = f"{SECTION}.Rules[{number}]"
        if rule.name in names[:number]:
            yield f'{path}.Name: "{rule.name}" is not allowed; allowed: a name that no other rule has'
        for key, named in (
            ("HomeArchive", (rule.home_archive,) if rule.home_archive else ()),
            ("Destinations", rule.destinations),
            ("Match.Archive", rule.match.archive),
        ):
            for name in named:
                if name not in archives:
                    why = nearest(name, archives)
                    yield f'{path}.{key}: "{name}" is not allowed{why}; allowed: {", ".join(archives)}'
        for key in rule.match.orthanc_keys:
            for name in rule.match.archive or archives:
                if name in archives and not archives[name].orthanc_url:
                    yield (
                        f'{path}.Match.{key}: is not allowed for the archive "{name}", which cannot tell it;'
                        f" allowed: archives with OrthancUrl (restrict the rule by Match.Archive)"
                    )
