"""Error lines for a wrong configuration: the key, its value (never a password), and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from orthanc_plugin.config.schema import fields, model_in
from orthanc_plugin.config.sections import SECTION, Configuration


def _field_at(keys: Sequence[int | str]) -> FieldInfo | None:
    """Return the last field on the way along these keys."""
    model: type[Any] | None = Configuration
    field = None
    for key in keys:
        if found := fields(model).get(str(key)):
            field = found
            model = model_in(field.annotation)
    return field


def problem(detail: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """Write one problem that pydantic found as a line.

    Parameters
    ----------
    detail : Mapping
        An item of `ValidationError.errors()`.
    notes : Mapping
        Remarks by key path; those on the key or inside it are appended.
    """
    keys = [key for key in detail["loc"] if key != "[key]"]
    path = SECTION + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    note = "".join(f" ({text})" for where, text in notes.items() if (where + ".").startswith(path + "."))
    field = _field_at(keys)
    allowed = f"; allowed: {field.description}" if field else ""
    reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else ""
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            parent = _field_at(keys[:-1])
            known = fields(model_in(parent.annotation) if parent else Configuration)
            return f"{path}: unknown key{nearest(str(keys[-1]), known)}; allowed: {', '.join(known)}"
        case "missing":
            return f"{path}: is missing{allowed}{note}"
        case "value_error" if isinstance(detail["input"], Mapping):
            return f"{path}: {reason}{note}"
    value = "a value that is not shown" if _is_secret(keys) else shown(detail["input"])
    return f"{path}: {value} is not allowed{reason and f' ({reason})'}{allowed}{note}"


def _is_secret(keys: Sequence[int | str]) -> bool:
    return bool({"Database", "Key", "Password", "ProxySecret", "Secret", "Token", "User"} & set(keys))


def shown(value: object) -> str:
    """Write a value as JSON, without accounts or tokens in addresses, and without the content of objects and lists."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return json.dumps(re.sub(r"^.*@", "***@", value.partition("?")[0], flags=re.DOTALL)[:80], ensure_ascii=False)
    return json.dumps(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean "..."?` if the name is close to a known one, otherwise an empty text."""
    close = difflib.get_close_matches(name.lower(), [key.lower() for key in known], n=1)
    return "".join(f', did you mean "{key}"?' for key in known if [key.lower()] == close)


def _untrusted(configuration: Configuration) -> Iterator[str]:
    """Find callers whom the proxy logs in but who could read nothing: the archive knows no account for them."""
    orthancs = {name: archive for name, archive in configuration.archives.items() if archive.orthanc_url}
    front = orthancs.get("local") or next(iter(orthancs.values()), None)
    if configuration.access.user_header and front is not None and not (front.user or front.token.get_secret_value()):
        yield (
            f"{SECTION}.Access.UserHeader: needs User and Password of the archive behind the front door: Orthanc does"
            " not know whom the proxy logs in, so the service asks it with its own account"
        )


def contradictions(configuration: Configuration) -> Iterator[str]:
    """Find what no single value shows: unknown names, and rules that ask for what an archive does not know."""
    archives = configuration.archives
    yield from _untrusted(configuration)
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
                        f'{path}.Match.{key}: is not allowed for the archive "{name}", which does not know it;'
                        f" allowed: archives with OrthancUrl (restrict the rule by Match.Archive)"
                    )
