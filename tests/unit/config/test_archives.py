"""Settings of archives: of one kind, one login, certificates that are used, and no secret in any text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orthanc_plugin.config.archives import Fallback, Retrieve
from orthanc_plugin.config.read import parse_section
from orthanc_plugin.config.sections import section_json
from orthanc_plugin.errors import ConfigError

URL = {"Url": "https://pacs/dicom-web"}
NODE = {"Host": "pacs", "Port": 104, "AET": "PACS"}
KEYS = {"ClientCertificate": "/k/own.pem", "ClientKey": "/k/own.key"}
SECRET = "s3cr3t-token"


def problems(archive: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    """Error lines of an archive `a`."""
    try:
        parse_section({"Archives": {"a": archive}}, environ or {})
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "archive",
    [
        URL,
        URL | {"Token": SECRET},
        {"Url": "http://localhost:8042/dicom-web", "OrthancUrl": "http://[::1]:8042", "Token": SECRET},
        URL | {"TokenFile": "/run/token", "CaFile": "/k/ca.pem"} | KEYS,
        {"Url": "http://pacs/dicom-web", "OrthancUrl": "https://pacs", "CaFile": "/k/ca.pem"},
        {"Dimse": NODE},
        {"Dimse": NODE | {"Retrieve": "C-MOVE", "ListenPort": 11113, "MoveAET": "WORKER 1", "Commitment": True}},
        {"Dimse": NODE | {"Tls": True}, "CaFile": "/k/ca.pem"} | KEYS,
        {"Folder": "/srv/ct", "Fallback": ["binary-seg", "rtstruct"]},
    ],
)
def test_archives_of_every_kind_are_read_and_written(archive: dict[str, Any]) -> None:
    configuration = parse_section({"Archives": {"a": archive}}, {})
    assert parse_section(json.loads(section_json(configuration)), {}) == configuration


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        ({}, "exactly one of Url, Dimse and Folder is needed"),
        (URL | {"Dimse": NODE}, "exactly one of Url, Dimse and Folder is needed"),
        ({"Dimse": NODE, "Folder": "/srv"}, "exactly one of Url, Dimse and Folder is needed"),
        ({"Dimse": NODE, "User": "ai", "Password": SECRET}, "User: only an archive with Url knows this"),
        (
            {"Folder": "/srv", "Token": SECRET, "OrthancUrl": "http://pacs"},
            "OrthancUrl, Token: only an archive with Url",
        ),
        (
            URL | {"User": "ai", "Password": SECRET, "Token": SECRET},
            "User, Token and TokenFile are three ways to log in",
        ),
        (URL | {"Token": SECRET, "TokenFile": "/run/token"}, "User, Token and TokenFile are three ways to log in"),
        ({"Url": "http://pacs/dicom-web", "Token": SECRET}, "Token and TokenFile need https:// addresses"),
        (
            {"Url": "http://localhost.pacs:80/x", "TokenFile": "/run/token"},
            "Token and TokenFile need https:// addresses",
        ),
        (URL | {"OrthancUrl": "http://pacs", "Token": SECRET}, "Token and TokenFile need https:// addresses"),
        (URL | {"ClientKey": "/k/own.key"}, "ClientCertificate and ClientKey belong together"),
        ({"Url": "http://pacs/dicom-web", "CaFile": "/k/ca.pem"}, "CaFile and ClientCertificate need TLS"),
        ({"Dimse": NODE | {"Tls": True, "Commitment": True, "ListenPort": 1}}, "need ClientCertificate and ClientKey"),
        ({"Dimse": NODE, "CaFile": "/k/ca.pem"}, "CaFile and ClientCertificate need TLS"),
        ({"Dimse": NODE | {"Retrieve": "C-MOVE"}}, "C-MOVE and Commitment need ListenPort"),
        ({"Dimse": NODE | {"Commitment": True}}, "C-MOVE and Commitment need ListenPort"),
        ({"Dimse": {"Host": "pacs", "AET": "PACS"}}, "Enrichment.Archives.a.Dimse.Port: is missing"),
        ({"Dimse": NODE | {"Host": "pacs:104"}}, '"pacs:104" is not allowed; allowed: a host name or an IPv4 address'),
        ({"Dimse": NODE | {"AET": "SEVENTEEN LETTERS"}}, "allowed: 1 to 16 characters without backslash"),
        ({"Dimse": NODE | {"AET": "BACK\\SLASH"}}, "allowed: 1 to 16 characters without backslash"),
        ({"Dimse": NODE | {"Aet": "PACS"}}, 'unknown key, did you mean "AET"?'),
        ({"Folder": "ct"}, "allowed: absolute path of a folder, or null"),
        (
            URL | {"Fallback": ["png"]},
            '"binary-seg", "comprehensive-sr", "enhanced-sr", "rtstruct", "secondary-capture"',
        ),
        (URL | {"Token": [SECRET]}, "a value that is not shown is not allowed"),
    ],
)
def test_a_wrong_archive_is_named_with_what_is_allowed(archive: dict[str, Any], said: str) -> None:
    lines = problems(archive)
    assert any(said in line and line.startswith("Enrichment.Archives.a") for line in lines), lines
    assert SECRET not in "\n".join(lines)


def test_secrets_are_shown_nowhere_and_only_a_child_process_gets_them() -> None:
    configuration = parse_section({"Archives": {"a": URL | {"Token": SECRET}}}, {})
    texts = (repr(configuration), str(configuration), configuration.model_dump_json(by_alias=True))
    assert all(SECRET not in text for text in texts)
    assert SECRET in section_json(configuration)


def test_the_environment_reaches_every_kind() -> None:
    environ = {
        "ENRICHMENT__ARCHIVES__A__DIMSE__CALLING_AET": "GPU1",
        "ENRICHMENT__ARCHIVES__A__DIMSE__PORT": "11112",
        "ENRICHMENT__ARCHIVES__B__TOKEN": SECRET,
    }
    section = {"Archives": {"a": {"Dimse": NODE}, "b": URL | {"Fallback": ["enhanced-sr"]}}}
    archives = parse_section(section, environ).archives
    assert archives["a"].dimse is not None
    assert (archives["a"].dimse.calling_aet, archives["a"].dimse.port) == ("GPU1", 11112)
    assert archives["a"].dimse.retrieve is Retrieve.GET
    assert archives["a"].dimse.destination_aet == "GPU1"
    assert archives["b"].token.get_secret_value() == SECRET
    assert archives["b"].fallback == (Fallback.ENHANCED_SR,)


@pytest.mark.parametrize("kind", [{"Dimse": NODE}, {"Folder": "/srv/ct"}])
def test_local_may_be_of_another_kind(kind: dict[str, Any]) -> None:
    archive = parse_section({"Archives": {"local": kind}}, {}).archives["local"]
    assert (archive.url, archive.orthanc_url) == ("", "")


LOGIN = {"User": "ai", "Password": SECRET}


@pytest.mark.parametrize(
    ("archive", "hosts"),
    [
        ({"Url": "http://pacs:8042/dicom-web", "OrthancUrl": "http://10.1.2.3"} | LOGIN, ("pacs", "10.1.2.3")),
        (URL | {"OrthancUrl": "http://pacs"} | LOGIN, ("pacs",)),
        ({"Url": "http://localhost.pacs/x"} | LOGIN, ("localhost.pacs",)),
        ({"Url": "http://localhost:8042/dicom-web", "OrthancUrl": "http://127.0.0.2"} | LOGIN, ()),
        ({"Url": "http://[::1]:8042/dicom-web"} | LOGIN, ()),
        (URL | LOGIN, ()),
        ({"Url": "http://pacs/dicom-web"}, ()),
    ],
)
def test_a_password_that_others_can_read_is_named(archive: dict[str, Any], hosts: tuple[str, ...]) -> None:
    warning = parse_section({"Archives": {"a": archive}}, {}).archives["a"].readable_login
    assert bool(warning) is bool(hosts)
    assert SECRET not in warning
    assert not hosts or f"go to {', '.join(hosts)} without encryption" in warning


@pytest.mark.parametrize(
    ("archive", "refused"),
    [
        ({"Url": "http://pacs/dicom-web"}, True),
        ({"Dimse": NODE}, True),
        (URL | {"OrthancUrl": "http://pacs"}, True),
        (URL | LOGIN, False),
        ({"Url": "http://127.0.0.1/x"} | LOGIN, False),
        ({"Dimse": NODE | {"Tls": True}, "CaFile": "/k/ca.pem"} | KEYS, False),
        ({"Dimse": NODE | {"Host": "127.0.0.1"}}, False),
        ({"Folder": "/srv"}, False),
    ],
)
def test_a_site_that_requires_tls_starts_with_nothing_else(archive: dict[str, Any], refused: bool) -> None:
    section = {"Archives": {"a": archive}, "RequireTls": True}
    if not refused:
        assert parse_section(section, {}).require_tls
        return
    with pytest.raises(ConfigError, match=r"RequireTls is true, but these archives are reached without TLS: a \("):
        parse_section(section, {})
