"""Settings files that every reader must judge alike: the plugin, the service, the workers and every command.

Each case is a whole orthanc.json and an environment. tests/unit/config/test_settings_files.py gives it to all readers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

OWN = {"Url": "http://127.0.0.1:8042/dicom-web", "OrthancUrl": "http://127.0.0.1:8042"}
ACCOUNT = {"User": "ai", "Password": "secret"}
BY_SENDER = [{"Name": "a", "Match": {"RemoteAET": ["CT1"]}}]
"""Rules that only an archive with OrthancUrl can answer."""


@dataclass(frozen=True)
class Case:
    """One settings file. local: addresses that the archive `local` must have; None: the file is refused."""

    name: str
    document: Json
    local: Json | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether all readers accept the file."""
        return self.local is not None


def started(section: Json | None = None, **orthanc: object) -> Json:
    """Return a file whose plugin starts the service."""
    section = section or {}
    service = section.get("Service", {})
    if isinstance(service, dict):
        service = {"Python": sys.executable, **service}
    return {**orthanc, "Enrichment": {**section, "Service": service}}


def elsewhere(**service: object) -> Json:
    """Return a file whose service runs elsewhere."""
    return {"Enrichment": {"Service": {"Start": False, "Url": "http://ai:8043", "Secret": "s", **service}}}


def _archive(**local: object) -> Json:
    return {"Archives": {"local": local}}


CASES = (
    # Archives, and the Orthanc that the file configures.
    Case("no archives", started(), OWN),
    Case("archives null", started({"Archives": None}), OWN),
    Case("archives empty", started({"Archives": {}}), OWN),
    Case("archives are a list", started({"Archives": []})),
    Case("archives are a text", started({"Archives": ""})),
    Case("archives are a number", started({"Archives": 3})),
    Case("only an account", started(_archive(**ACCOUNT)), OWN),
    Case("a user without password", started(_archive(User="ai"))),
    Case(
        "another port, TLS and another root",
        started(_archive(**ACCOUNT), HttpPort=8099, SslEnabled=True, DicomWeb={"Enable": True, "Root": "dw"}),
        {"Url": "https://127.0.0.1:8099/dw", "OrthancUrl": "https://127.0.0.1:8099"},
    ),
    Case("TLS off", started(SslEnabled=False, HttpPort=8042), OWN),
    Case("DicomWeb without a root", started(DicomWeb={"Enable": True}), OWN),
    Case("DicomWeb null", started(DicomWeb=None), OWN),
    Case("DicomWeb is a text", started(DicomWeb="on"), OWN),
    Case("the root of the server", started(DicomWeb={"Root": "/"}), {**OWN, "Url": "http://127.0.0.1:8042"}),
    Case("its own address written", started(_archive(Url=OWN["Url"] + "/") | {"Rules": BY_SENDER}), OWN),
    Case(
        "its own address as localhost",
        started(_archive(Url=OWN["Url"].replace("127.0.0.1", "localhost"))),
        {**OWN, "Url": OWN["Url"].replace("127.0.0.1", "localhost")},
    ),
    Case("OrthancUrl empty on purpose", started(_archive(OrthancUrl="")), {**OWN, "OrthancUrl": ""}),
    Case("another address", started(_archive(Url="http://pacs/rs")), {"Url": "http://pacs/rs", "OrthancUrl": ""}),
    Case("a rule that another address cannot answer", started(_archive(Url="http://pacs/rs") | {"Rules": BY_SENDER})),
    Case("local null", started({"Archives": {"local": None}})),
    Case("another archive without Url", started({"Archives": {"far": ACCOUNT}})),
    Case("an address with a user", started(_archive(Url="http://a:b@pacs/rs"))),
    # Who may read the images.
    Case("remote access with login", started(RemoteAccessAllowed=True, AuthenticationEnabled=True), OWN),
    Case("no login, but this computer only", started(RemoteAccessAllowed=False, AuthenticationEnabled=False), OWN),
    Case("remote access, login by Orthanc's default", started(RemoteAccessAllowed=True), OWN),
    Case("remote access without login", started(RemoteAccessAllowed=True, AuthenticationEnabled=False)),
    Case(
        "remote access without login, service elsewhere",
        elsewhere() | {"RemoteAccessAllowed": True, "AuthenticationEnabled": False},
    ),
    # The section as a whole.
    Case("no section", {"HttpPort": 8042}),
    Case("section null", {"Enrichment": None}),
    Case("section is a list", {"Enrichment": []}),
    Case("an unknown key", started({"StabelAge": 3})),
    Case("a wrong rule", started({"Rules": [{"Name": "a", "Models": []}]})),
    # The keys that the plugin reads itself.
    Case("Service null", {"Enrichment": {"Service": None}}),
    Case("Service is a number", {"Enrichment": {"Service": 5}}),
    Case("service elsewhere", elsewhere(), OWN),
    *(Case(f"Start is {start!r}", elsewhere(Start=start), OWN) for start in ("false", "No", "off", "0", 0, 0.0)),
    *(Case(f"Start is {start!r}", started({"Service": {"Start": start}}), OWN) for start in ("true", "YES", "1", 1)),
    *(Case(f"Start is {start!r}", elsewhere(Start=start)) for start in ("perhaps", "", None, 2, [], {})),
    Case("elsewhere without Url", elsewhere(Url="")),
    Case("elsewhere, InternalUrl", elsewhere(InternalUrl="http://service:8043"), OWN),
    Case("elsewhere, InternalUrl without scheme", elsewhere(InternalUrl="service:8043")),
    Case("elsewhere, Url with a path", elsewhere(Url="https://ai.example/base/"), OWN),
    *(
        Case(f"elsewhere, Url is {url!r}", elsewhere(Url=url))
        for url in ("ftp://ai", "ai:8043", "http://", "http://me:secret@ai", "http://ai/?token=x", None, 5)
    ),
    Case("elsewhere, Secret is a number", elsewhere(Secret=5)),
    Case("elsewhere, Host is a number", elsewhere(Host=5)),
    Case("elsewhere, Python is relative", elsewhere(Python="python3")),
    Case("Python is relative", started({"Service": {"Python": "python3"}})),
    Case("Python is null", started({"Service": {"Python": None}})),
    Case("StateDirectory is relative", started({"StateDirectory": "state"})),
    Case("StateDirectory is a number", started({"StateDirectory": 5})),
    Case("a host that others reach", started({"Service": {"Host": "0.0.0.0"}})),
    Case("a host that others reach, by choice", started({"Service": {"Host": "0.0.0.0", "AllowRemote": True}}), OWN),
    # Overrides of the environment.
    Case(
        "override: elsewhere",
        started(),
        OWN,
        {"ENRICHMENT__SERVICE__START": "false", "ENRICHMENT__SERVICE__URL": "http://ai"},
    ),
    Case("override: elsewhere without Url", started(), None, {"ENRICHMENT__SERVICE__START": "false"}),
    Case("override: Python", {"Enrichment": {}}, OWN, {"ENRICHMENT__SERVICE__PYTHON": sys.executable}),
    Case("override: host", started(), OWN, {"enrichment__service__host": "::1"}),
    Case("override: secret", elsewhere(), OWN, {"ENRICHMENT__SERVICE__SECRET": "other"}),
    *(
        Case(f"override: secret {secret}", elsewhere(), OWN, {"ENRICHMENT__SERVICE__SECRET": secret})
        for secret in ("null", "[1]", '{"a": 1}', "[x")
    ),
    Case("override: Start null", elsewhere(), None, {"ENRICHMENT__SERVICE__START": "null"}),
    Case("override: not quite JSON", started(), None, {"ENRICHMENT__SERVICE": "{'Port': 1}"}),
    Case(
        "override: an account for archives that are a list",
        started({"Archives": [5]}),
        OWN,
        {"ENRICHMENT__ARCHIVES__LOCAL__USER": "ai", "ENRICHMENT__ARCHIVES__LOCAL__PASSWORD": "x"},
    ),
    Case("override: folder", started(), OWN, {"ENRICHMENT__STATE_DIRECTORY": "/srv/state"}),
    Case("override: relative folder", started(), None, {"ENRICHMENT__STATEDIRECTORY": "state"}),
    Case("override: an object", {"Enrichment": {}}, OWN, {"ENRICHMENT__SERVICE": f'{{"Python": "{sys.executable}"}}'}),
    Case("override: not an object", started(), None, {"ENRICHMENT__SERVICE": "on"}),
    Case("override: null", started(_archive(Url="http://pacs/rs")), OWN, {"ENRICHMENT__ARCHIVES": "null"}),
    Case("override: archives", started(), OWN, {"ENRICHMENT__ARCHIVES": '{"local": {"User": "a", "Password": "b"}}'}),
    Case("override: an account", started(_archive(User="ai")), OWN, {"ENRICHMENT__ARCHIVES__LOCAL__PASSWORD": "x"}),
    Case("override: one more archive", started(), OWN, {"ENRICHMENT__ARCHIVES__PACS__URL": "http://pacs"}),
    Case("override: a number of seconds", started(), OWN, {"ENRICHMENT__STABLE_AGE": "3"}),
    Case("override: no such key", started(), None, {"ENRICHMENT__STABEL_AGE": "3"}),
    Case("another variable", started(), OWN, {"ENRICHMENT_CONFIG_": "x", "ENRICHMENT": "y"}),
)
