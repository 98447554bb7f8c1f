"""WADO-RS of a whole CT through the front door, against nginx and Orthanc itself, interleaved.

Usage: python -m tests.benchmarks.front_door [--rounds 9] (`make bench-front-door`, on a quiet machine). The goal: the
front door takes at most 1.25 times what nginx takes. The exit code is 1 if it takes more.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread

from tests.support.cases.enriched import EnrichedOrthanc, files_of
from tests.support.cases.realct import real_ct
from tests.support.servers.orthanc_server import free_port, wait_until

GOAL = 1.25
_NGINX = """daemon off; pid {folder}/pid; error_log {folder}/error.log;
worker_processes 1; events {{ worker_connections 64; }}
http {{
  access_log off; include /etc/nginx/mime.types; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}; client_max_body_size 0;
    location /dicom-web/ {{
      proxy_pass {orthanc}; proxy_http_version 1.1; proxy_set_header Host $http_host; {header}
    }}
    {more}
  }}
}}
"""


@contextlib.contextmanager
def nginx(orthanc: str, header: str = "", more: str = "") -> Iterator[int]:
    """Debian's nginx in front of an Orthanc, with its defaults; gives its port.

    `header`: what is added to requests to Orthanc. `more`: further places that it serves.
    """
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        sys.exit("nginx is not installed: ./scripts/install-system nginx")
    folder, port = Path(tempfile.mkdtemp(prefix="nginx-")), free_port()
    folder.chmod(0o755)  # nginx's worker is another user and buffers in files here
    (folder / "nginx.conf").write_text(
        _NGINX.format(folder=folder, port=port, orthanc=orthanc, header=header, more=more)
    )
    process = subprocess.Popen([binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        wait_until(lambda: _listens(port), 10, "nginx")
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def retrieve(port: int, path: str, login: str) -> tuple[float, int]:
    """Seconds and bytes of one retrieval; the reader does nothing but read."""
    question = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n"
    question += 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*\r\nConnection: close\r\n\r\n'
    buffer, size = bytearray(1 << 20), 0
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(question.encode())
        first = connection.recv_into(buffer)
        assert bytes(buffer[:15]).startswith(b"HTTP/1.1 200"), bytes(buffer[:200])
        size += first
        while read := connection.recv_into(buffer):
            size += read
    return time.perf_counter() - began, size


def measure(rounds: int) -> int:
    """Measure, print medians and ratio; return the exit code."""
    files = files_of(real_ct("lidc_0314_chest/dicom"))
    with EnrichedOrthanc(section={"Workers": 0}, stable_age_s=3600) as site, nginx(site.url) as nginx_port:
        site.await_service()
        for start in range(0, len(files), 50):
            site.stow(files[start : start + 50])
        ds = dcmread(files[0], stop_before_pixels=True)
        path = f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        login = base64.b64encode(f"{site.user}:{site.password}".encode()).decode()
        ports = {"Orthanc": site.port, "nginx": nginx_port, "front door": site.service_port}
        seconds: dict[str, list[float]] = {name: [] for name in ports}
        sizes = set()
        (service,) = (process for process in site.children() if "service" in process.cmdline())
        before = sum(service.cpu_times()[:2])
        for turn in range(rounds + 1):
            for name, port in ports.items():
                took, size = retrieve(port, path, login)
                sizes.add(size)
                if turn:  # the first round fills caches
                    seconds[name].append(took)
        processor_s = (sum(service.cpu_times()[:2]) - before) / (rounds + 1)
    assert max(sizes) < 1.01 * min(sizes), f"answers of different sizes: {sizes}"  # each divides its chunks its own way
    _report(rounds, size, seconds, processor_s)
    return int(_ratio(seconds) > GOAL)


def _report(rounds: int, size: int, seconds: dict[str, list[float]], processor_s: float) -> None:
    print(f"load {os.getloadavg()[0]:.1f}, {size / 1e6:.1f} MB, median of {rounds} (least to most), seconds")
    for name, found in seconds.items():
        print(f"{name:<11} {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f})")
    print(f"processor time of the front door: {processor_s:.2f} s a retrieval")
    print(f"front door / nginx: {_ratio(seconds):.2f} (goal: at most {GOAL})")


def _ratio(seconds: dict[str, list[float]]) -> float:
    return statistics.median(seconds["front door"]) / statistics.median(seconds["nginx"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    sys.exit(measure(parser.parse_args().rounds))
