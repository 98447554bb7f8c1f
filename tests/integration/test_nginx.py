"""The TLS proxy of docs/install.md: deploy/nginx.conf before a real service and a real Orthanc."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orthanc_plugin.phantoms.dicom import encode_phantom
from tests.support.cases.enriched import EnrichedOrthanc, small_chest
from tests.support.servers.orthanc_server import free_port, listens, wait_until
from tests.support.servers.tls import Authority

ROOT = Path(__file__).resolve().parents[2]
_AROUND = """daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {site}
}}
"""


@contextlib.contextmanager
def proxy(folder: Path, site: EnrichedOrthanc) -> Iterator[httpx.Client]:
    """Debian's nginx with the site of the docs, only its ports and its certificate changed; gives a client."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        assert "CI" not in os.environ, "scripts/install-system nginx"
        pytest.skip("nginx is not installed")
    folder.chmod(0o755)
    authority, port = Authority(folder), free_port()
    shown = authority.sign()
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for pattern, value in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        (r"ssl_certificate  .*", f"ssl_certificate {shown.certificate};"),
        (r"ssl_certificate_key .*", f"ssl_certificate_key {shown.key};"),
        ("127.0.0.1:8042", f"127.0.0.1:{site.port}"),
        ("127.0.0.1:8043", f"127.0.0.1:{site.service_port}"),
    ):
        text, number = re.subn(pattern, value, text)
        assert number == 1, pattern
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, site=text))
    with subprocess.Popen([binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as process:
        try:
            wait_until(lambda: listens(port), 20, "nginx")
            context = ssl.create_default_context(cafile=str(authority.file))
            with httpx.Client(
                base_url=f"https://localhost:{port}", verify=context, auth=(site.user, site.password), trust_env=False,
                timeout=60,
            ) as client:  # fmt: skip
                yield client
        finally:
            process.terminate()


def test_pages_changes_and_addresses_behind_the_proxy_of_the_docs(tmp_path: Path) -> None:
    with EnrichedOrthanc(section={"Workers": 0}, stable_age_s=3600) as site:
        site.await_service()
        with proxy(tmp_path, site) as client:
            assert client.get("/enrichment/").status_code == 200
            assert client.get("/enrichment/", auth=("nobody", "x")).status_code == 401
            assert client.get("/orthanc/system").json()["ApiVersion"]
            assert client.get("/orthanc/system", auth=("nobody", "x")).status_code == 401
            own, other = str(client.base_url).rstrip("/"), "https://elsewhere.example"
            paused = client.post("/enrichment/api/v1/pause", headers={"Origin": own})
            assert paused.status_code == 200
            assert client.post("/enrichment/api/v1/pause", headers={"Origin": other}).status_code == 403
            for ds in encode_phantom(small_chest())[:2]:
                ds.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
                content = (tmp_path / "ct.dcm").read_bytes()
                assert client.post("/orthanc/instances", content=content).status_code == 200
            (study,) = client.get("/dicom-web/studies", headers={"Accept": "application/dicom+json"}).json()
            address = study["00081190"]["Value"][0]
            assert address.startswith(f"{own}/dicom-web/studies/"), address
            found = client.get(f"{address}/metadata", headers={"Accept": "application/dicom+json"})
            assert len(found.json()) == 2
