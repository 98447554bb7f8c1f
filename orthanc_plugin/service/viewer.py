"""The viewer: OHIF served at `/`, and the address at which a study, a series or an object opens.

OHIF is unchanged but for two things: `app-config.js` is ours, and `index.html` asks for its manifest with the login
that the browser holds. Unknown paths without a suffix are pages of OHIF itself (`/viewer?...`) and get `index.html`.
Pages and buttons link to `/enrichment/open`, which leads to the viewer that the configuration names.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from orthanc_plugin.config.base import VIEWER_FIELDS
from orthanc_plugin.config.sections import ViewerSettings
from orthanc_plugin.domain.uids import is_uid
from orthanc_plugin.service.ohif_package import (
    COMPRESSED,
    DIST,
    MINIMUM,
    default_directory,
    installed_version,
    is_supported,
)
from orthanc_plugin.service.routes import guarded

OPEN = "/enrichment/open"
_OHIF_FIELDS = ("StudyInstanceUIDs", "initialSeriesInstanceUID", "initialSOPInstanceUID")
_APP_CONFIG = Path(__file__).parent / "ohif" / "app-config.js"
_HASHED = re.compile(r"[.][0-9a-f]{16}[.]\w+$|/[0-9a-f]{16}[.]\w+$")
"""Names that change with their content: browsers may keep them."""
_KEEP, _ASK = "private, max-age=31536000, immutable", "private, no-cache"
# What OHIF needs beyond pages of ours: code made from text (its decoders of JPEG, its volume tools), workers and
# pictures from memory, and styles in elements. It needs no other origin.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'{inline}; worker-src 'self' blob:; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " manifest-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_log = logging.getLogger(__name__)


class Viewer:
    """Routes of the viewer.

    Parameters
    ----------
    settings : ViewerSettings
        Where studies open, and where OHIF lies.
    """

    def __init__(self, settings: ViewerSettings) -> None:
        self._settings = settings
        self._directory = settings.directory or default_directory()
        if not settings.url and (why := self.missing()):
            _log.warning("%s", why)

    def routes(self) -> list[Route]:
        """Return the routes of pages; `OhifFiles` answers for every other path."""
        return [Route("/", guarded(self.home)), Route(OPEN, guarded(self.open, VIEWER_FIELDS))]

    @property
    def dist(self) -> Path:
        """Folder of OHIF's files."""
        return self._directory / DIST

    def missing(self) -> str:
        """Say why OHIF is not served; empty if it is."""
        version = installed_version(self._directory)
        if not version:
            return "OHIF is not installed: run `orthanc-enrich ohif install`"
        if not is_supported(version):
            least = ".".join(map(str, MINIMUM))
            return f"OHIF {version} is too old, {least} is needed: run `orthanc-enrich ohif install`"
        return ""

    async def home(self, request: Request) -> Response:
        """Show OHIF's list of studies, or the dashboard if there is no OHIF."""
        return RedirectResponse("/enrichment/", 303) if self.missing() else index_page(self.dist)

    async def open(self, request: Request) -> Response:
        """Lead to a study, a series or an object in the viewer.

        The address names the host: if the caller's had a user and a password, they stay behind.
        """
        uids = [request.query_params.get(name, "") for name in VIEWER_FIELDS]
        if not uids[0] or not all(is_uid(uid) for uid in uids if uid):
            raise HTTPException(400, "StudyInstanceUID is needed, and every parameter must be a UID")
        if not self._settings.url and (why := self.missing()):
            raise HTTPException(404, why)
        link = viewer_link(self._settings.url, *uids)
        return RedirectResponse(f"//{request.url.netloc}{link}" if link[0] == "/" else link, 303)


def viewer_link(template: str, study_uid: str, series_uid: str = "", sop_uid: str = "") -> str:
    """Give the address at which a viewer shows a study, and in it a series or an object.

    Parameters
    ----------
    template : str
        `Viewer.Url`; empty for the OHIF of the service.
    """
    uids = (study_uid, series_uid, sop_uid)
    if not template:
        pairs = zip(_OHIF_FIELDS, uids, strict=True)
        return "/viewer?" + "&".join(f"{name}={quote(uid, safe='')}" for name, uid in pairs if uid)
    values = dict(zip(VIEWER_FIELDS, uids, strict=True))
    return re.sub(r"{(\w+)}", lambda found: quote(values[found[1]], safe=""), template)


class OhifFiles(StaticFiles):
    """The files of OHIF for paths that no route has, compressed where the browser takes that.

    Parameters
    ----------
    viewer : Viewer
        Says whether there is an OHIF, and where.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(directory=viewer.dist, check_dir=False)
        self.config_checked = True  # the folder may come later
        self._viewer = viewer

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file; with OHIF's page for a path of its own; with 404 for other unknown paths."""
        if scope["path"].startswith(("/enrichment", "/dicom-web")):
            raise HTTPException(404)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405)
        if why := self._viewer.missing():
            return PlainTextResponse(f"{why}.\n", 404)
        if path == "app-config.js":
            return _with_headers(Response(_APP_CONFIG.read_bytes(), media_type="text/javascript"), _ASK)
        if path == "index.html" or "." not in path.rpartition("/")[2]:
            return index_page(self._viewer.dist)
        return _with_headers(await self._file(path, scope), _KEEP if _HASHED.search(path) else _ASK)

    async def _file(self, path: str, scope: Scope) -> Response:
        if "gzip" not in Headers(scope=scope).get("accept-encoding", "") or path.endswith(COMPRESSED):
            return await super().get_response(path, scope)
        try:
            response = await super().get_response(path + COMPRESSED, scope)
        except HTTPException:
            return await super().get_response(path, scope)
        plain = _TYPES.get(path.rpartition(".")[2])
        if plain is not None and response.status_code == 200:
            response.headers["Content-Type"] = plain
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        return response


_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
}


def index_page(dist: Path) -> Response:
    """Give OHIF's page: browsers ask for a manifest without credentials, unless its link says otherwise."""
    page = (dist / "index.html").read_text(encoding="utf-8")
    page = page.replace('<link rel="manifest" ', '<link rel="manifest" crossorigin="use-credentials" ')
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    response = Response(page, media_type="text/html")
    return _with_headers(response, _ASK, "".join(f" 'sha256-{digest}'" for digest in digests))


def _with_headers(response: Response, cache: str, inline: str = "") -> Response:
    response.headers["Cache-Control"] = cache
    response.headers["Content-Security-Policy"] = _POLICY.format(inline=inline)
    return response
