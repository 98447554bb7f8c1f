"""The section "Enrichment" of orthanc.json: one schema for the service that the plugin starts and for remote workers.

Reads orthanc.json (or a folder of such files) as Orthanc does, applies overrides from the environment, and refuses
what it does not know. An error names the key, its value (never a password) and what is allowed.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import json5
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from orthanc_plugin.codes import REPORT_TITLE, Code
from orthanc_plugin.criteria import Settings
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.orthanc_json import JsonObject, read_orthanc_json
from orthanc_plugin.rules import DEFAULT_RULE, Rule

SECTION = "Enrichment"
ENVIRONMENT_PREFIX = "ENRICHMENT__"

_SECRETS = object()  # asks the serializer for passwords in clear


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", text):
        raise ValueError("not a web address")
    return text.rstrip("/")


def _optional_web_address(text: str) -> str:
    return _web_address(text) if text else ""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not absolute")
    return path


def _reveal_on_request(secret: SecretStr, info: SerializationInfo[Any]) -> str:
    return secret.get_secret_value() if info.context is _SECRETS else str(secret)


Secret = Annotated[SecretStr, PlainSerializer(_reveal_on_request, when_used="json")]
WebAddress = Annotated[str, AfterValidator(_web_address)]
OptionalWebAddress = Annotated[str, AfterValidator(_optional_web_address)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class ServiceSettings(Settings):
    """The service: who starts it, and where it listens."""

    start: bool = Field(
        default=True, description="true (the plugin starts the service) or false (it runs elsewhere, see Url)"
    )
    python: str = Field(
        default="", description="absolute path of the Python of the virtual environment", pattern="^(/.*)?$"
    )
    host: str = Field(
        default="127.0.0.1", description="an address to listen on; not loopback only with AllowRemote: true"
    )
    port: int = Field(default=8043, ge=0, le=65535, description="a port from 1 to 65535, or 0 for any free one")
    allow_remote: bool = Field(default=False, description="true or false")
    url: OptionalWebAddress = Field(
        default="", description="http(s)://host[:port][/path] without user; needed if Start is false"
    )
    secret: Secret = Field(default=SecretStr(""), description="a text shared by plugin and service if Start is false")

    @model_validator(mode="after")
    def _exposed_by_choice(self) -> ServiceSettings:
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(
                f"Host {self.host} is reachable from other computers: set Host to 127.0.0.1 behind a TLS proxy,"
                " or AllowRemote to true"
            )
        if not self.start and not self.url:
            raise ValueError("Start is false: set Url to where the service runs")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ArchiveSettings(Settings):
    """An archive and the account with which the service and the workers log in to it."""

    url: WebAddress = Field(description="the DICOMweb root, http(s)://host[:port]/path without user")
    orthanc_url: OptionalWebAddress = Field(
        default="", description="Orthanc's REST root, or empty where it is no Orthanc"
    )
    user: str = Field(default="", pattern="^[^:]*$", description="a user name without colon, or empty for no login")
    password: Secret = Field(default=SecretStr(""), description="a text; needed where User is set")

    @model_validator(mode="after")
    def _password_for_user(self) -> ArchiveSettings:
        if self.user and not self.password.get_secret_value():
            raise ValueError("User is set but Password is empty")
        return self


class ReportTitle(Settings):
    """Coded title of the reports (PS3.3 Table 8.8-1)."""

    value: str = Field(
        default=REPORT_TITLE.value, pattern=r"^[^\\\s]{1,16}$", description="1 to 16 characters without spaces"
    )
    scheme: str = Field(
        default=REPORT_TITLE.scheme, pattern=r"^[^\\\s]{1,16}$", description="1 to 16 characters without spaces"
    )
    meaning: str = Field(default=REPORT_TITLE.meaning, pattern=r"^[^\\]{1,64}$", description="1 to 64 characters")

    @property
    def code(self) -> Code:
        """The title as a coded concept."""
        return Code(self.value, self.scheme, self.meaning)


ArchiveName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]


class Configuration(Settings):
    """The whole section. docs/configuration.md describes each key."""

    service: ServiceSettings = Field(default=ServiceSettings(), description="an object")
    state_directory: AbsolutePath = Field(
        default=Path("/var/lib/orthanc-enrichment"), description="absolute path of a folder of its own, on a local disk"
    )
    database: str = Field(
        default_factory=lambda valid: f"sqlite:///{valid.get('state_directory')}/jobs.db",
        pattern=r"^(sqlite:////.+|postgresql(\+psycopg)?://.+)$",
        repr=False,
        description="sqlite:////absolute/path or postgresql://...; left out: jobs.db in StateDirectory",
    )
    models_directory: AbsolutePath | None = Field(default=None, description="absolute path of a folder, or null")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        default="auto", description='"auto", "cpu", "cuda" or "tensorrt"'
    )
    archives: dict[ArchiveName, ArchiveSettings] = Field(
        description="an object, its names of 1 to 32 letters, digits, - or _"
    )
    stable_age_s: float = Field(default=60.0, alias="StableAge", ge=0, le=86400, description="seconds, 0 to 86400")
    reconcile_s: float = Field(
        default=300.0, alias="ReconcileSeconds", gt=0, le=86400, description="seconds, above 0 to 86400"
    )
    workers: int = Field(default=1, ge=0, le=64, description="0 (only remote workers) to 64")
    radiomics_processes: int = Field(
        default=0, ge=0, le=64, description="1 to 64, or 0 for as many as there are cores for each worker"
    )
    radiomics_memory_mib: int = Field(
        default=2048, alias="RadiomicsMemory", ge=256, le=1048576, description="MiB, 256 to 1048576"
    )
    report_title: ReportTitle = Field(default=ReportTitle(), description="an object with Value, Scheme and Meaning")
    rules: tuple[Rule, ...] = Field(default=(DEFAULT_RULE,), description="a list of rules, tried in this order")

    @property
    def processes_for_radiomics(self) -> int:
        """How many organs a worker measures at once."""
        return self.radiomics_processes or max(1, len(os.sched_getaffinity(0)) // max(1, self.workers))


def section_json(configuration: Configuration) -> str:
    """The section as one JSON line, passwords included: only for the stdin of a child process."""
    return configuration.model_dump_json(by_alias=True, context=_SECRETS)


def load_configuration(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Configuration in orthanc.json, or in a folder of `*.json` merged as Orthanc merges them.

    Parameters
    ----------
    path : Path
        A file, or a folder whose files must not share a top-level key.
    environ : Mapping
        Gives `${NAME}` in the files their values (unset: empty, as in Orthanc; `${NAME:-default}`), and the overrides
        such as `ENRICHMENT__ARCHIVES__LOCAL__PASSWORD`.

    Raises
    ------
    ConfigError
        With a line for each problem: key, value (never a password) and what is allowed.
    """
    document, notes = read_orthanc_json(path, environ)
    if SECTION not in document:
        raise ConfigError(f'{path}: there is no section "{SECTION}"')
    return _parse(document[SECTION], environ, _local_archive(document), notes)


def parse_section(section: Mapping[str, object], environ: Mapping[str, str]) -> Configuration:
    """Configuration of a section whose `${NAME}` are replaced already; the rest as `load_configuration`."""
    return _parse(section, environ, _local_archive({}), {})


def _parse(section: object, environ: Mapping[str, str], local: JsonObject, notes: Mapping[str, str]) -> Configuration:
    if not isinstance(section, Mapping):
        raise ConfigError(f"{SECTION}: {_shown(section)} is not allowed; allowed: an object")
    filled = dict(section)
    filled["Archives"] = filled.get("Archives") or {"local": local}
    filled, overrides = _override(filled, environ)
    try:
        configuration = Configuration.model_validate(filled)
    except ValidationError as error:
        details = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
        problems = [_problem(detail, {**notes, **overrides}) for detail in details]
    else:
        problems = list(_contradictions(configuration))
        if not problems:
            return configuration
    raise ConfigError("\n".join(problems))


def _local_archive(document: JsonObject) -> JsonObject:
    """The Orthanc that this file configures."""
    scheme = "https" if document.get("SslEnabled") is True else "http"
    rest = f"{scheme}://127.0.0.1:{document.get('HttpPort', 8042)}"
    web = document.get("DicomWeb")
    root = str(web.get("Root", "/dicom-web/")) if isinstance(web, dict) else "/dicom-web/"
    return {"Url": f"{rest}/{root.strip('/')}", "OrthancUrl": rest}


# Overrides: ENRICHMENT__ARCHIVES__LOCAL__PASSWORD, ENRICHMENT__STABLE_AGE; lists and objects as JSON.


def _override(section: JsonObject, environ: Mapping[str, str]) -> tuple[JsonObject, dict[str, str]]:
    """The section with the values of the environment, and for each overridden key a note that says so."""
    notes = {}
    for name in sorted(environ):
        if not name.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        keys, is_text = _keys_of(name[len(ENVIRONMENT_PREFIX) :].split("__"), section)
        if not keys:
            raise ConfigError(f"environment variable {name}: there is no such key in {SECTION}")
        section = _with_value(section, keys, environ[name] if is_text else _from_json(environ[name]))
        notes[".".join([SECTION, *keys])] = f"from environment variable {name}"
    return section, notes


def _keys_of(parts: Sequence[str], section: JsonObject) -> tuple[tuple[str, ...], bool]:
    """Keys that the parts of a variable name mean (none: no such key), and whether the value is a plain text."""
    model: type[BaseModel] | None = Configuration
    keys: list[str] = []
    rest = list(parts)
    annotation: object = None
    while rest:
        fields = _fields(model)
        key = _same_name(rest.pop(0), fields)
        if key is None:
            return (), False
        keys.append(key)
        annotation = fields[key].annotation
        if get_origin(annotation) is dict and rest:
            keys.append(_same_name(rest[0], section.get(key) or {}) or rest[0].lower())
            del rest[0]
        model = None if get_origin(annotation) is tuple else _model_in(annotation)
    return tuple(keys), annotation in (str, SecretStr)


def _same_name(part: str, names: Iterable[str]) -> str | None:
    def squashed(name: str) -> str:
        return re.sub("[_-]", "", name).lower()

    return next((name for name in names if squashed(name) == squashed(part)), None)


def _from_json(text: str) -> object:
    """Lists, objects and null; all else is a text, which the schema reads as number or truth value."""
    if text[:1] not in "[{" and text != "null":
        return text
    try:
        return json5.loads(text)
    except ValueError:
        return text


def _with_value(tree: Any, keys: Sequence[str], value: object) -> Any:
    if not keys:
        return value
    branch = tree if isinstance(tree, dict) else {}
    return {**branch, keys[0]: _with_value(branch.get(keys[0]), keys[1:], value)}


# Errors: key, value, what is allowed.


def _fields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _field_at(keys: Sequence[int | str]) -> tuple[FieldInfo | None, dict[str, FieldInfo]]:
    """The last field on the way along these keys, and its neighbours."""
    model: type[BaseModel] | None = Configuration
    field, neighbours = None, _fields(model)
    for key in keys:
        if key in _fields(model):
            neighbours = _fields(model)
            field = neighbours[str(key)]
            model = _model_in(field.annotation)
    return field, neighbours


def _problem(detail: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    keys = [key for key in detail["loc"] if key != "[key]"]
    path = SECTION + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    note = "".join(f" ({text})" for where, text in notes.items() if (where + ".").startswith(path + "."))
    field, _ = _field_at(keys)
    allowed = f"; allowed: {field.description}" if field else ""
    reason = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else ""
    match detail["type"]:
        case "extra_forbidden":
            parent, _ = _field_at(keys[:-1])
            known = _fields(_model_in(parent.annotation) if parent else Configuration)
            return f"{path}: unknown key{nearest(str(keys[-1]), known)}; allowed: {', '.join(known)}"
        case "missing":
            return f"{path}: is missing{allowed}{note}"
        case "value_error" if isinstance(detail["input"], Mapping):
            return f"{path}: {reason}{note}"
    value = "a value that is not shown" if _is_secret(keys) else _shown(detail["input"])
    return f"{path}: {value} is not allowed{reason and f' ({reason})'}{allowed}{note}"


def _is_secret(keys: Sequence[int | str]) -> bool:
    return bool({"Database", "Password", "Secret", "User"} & set(keys))


def _shown(value: object) -> str:
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


def _contradictions(configuration: Configuration) -> Iterator[str]:
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
