"""What Orthanc's own settings decide: where Orthanc answers, and whether the section may be used at all.

The plugin passes these settings on, so the service that it starts and every command decide alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orthanc_plugin.config.orthanc_json import JsonObject

EXPOSED = "RemoteAccessAllowed is true and AuthenticationEnabled is false: anybody could read the images"


OPEN_SERVICE = (
    "Service.Host is reachable from other computers and AuthenticationEnabled is false: nobody could log in; set"
    " AuthenticationEnabled to true and RegisteredUsers"
)
NO_NAMES = "Access names users, but AuthenticationEnabled is false: Orthanc knows nobody; set it to true"


def is_exposed(document: Mapping[str, Any]) -> bool:
    """Return whether Orthanc lets strangers in without a login."""
    return document.get("RemoteAccessAllowed") is True and document.get("AuthenticationEnabled") is False


def unsafe(document: JsonObject, *, open_host: bool, names_users: bool) -> str:
    """Say why the section must not be used with this Orthanc; empty if it may."""
    if document.get("AuthenticationEnabled") is not False:
        return ""
    return OPEN_SERVICE if open_host else NO_NAMES if names_users else ""


def with_local_archive(archives: object, document: JsonObject) -> object:
    """Fill in the addresses of the archive `local`: without `Url` it is the Orthanc that this document configures.

    Parameters
    ----------
    archives : object
        `Archives` as written; what is not an object is returned unchanged, for the schema to refuse.
    document : dict
        The whole configuration of Orthanc, or the few keys of it that the plugin passes on.
    """
    local = archives.get("local") if isinstance(archives, dict) else None
    if not isinstance(archives, dict) or not isinstance(local, dict) or local.get("Dimse") or local.get("Folder"):
        return archives
    own = _own_addresses(document)
    url = re.sub(r"(?<=://)(localhost|\[::1\])(?=[:/])", "127.0.0.1", str(local.get("Url", own["Url"])))
    if url.rstrip("/") != own["Url"]:
        return archives
    return {**archives, "local": own | local}


def _own_addresses(document: JsonObject) -> dict[str, str]:
    scheme = "https" if document.get("SslEnabled") is True else "http"
    rest = f"{scheme}://127.0.0.1:{document.get('HttpPort', 8042)}"
    dicomweb = document.get("DicomWeb")
    root = dicomweb.get("Root", "/dicom-web/") if isinstance(dicomweb, dict) else "/dicom-web/"
    return {"Url": f"{rest}/{str(root).strip('/')}".rstrip("/"), "OrthancUrl": rest}
