"""The harness itself: what other tests rely on."""

from __future__ import annotations

import os
from collections.abc import Callable

import httpx
import pytest

from tests.support.servers.orthanc_server import OrthancServer


def test_shared_orthanc_answers_with_dicomweb(orthanc: OrthancServer) -> None:
    assert "dicom-web" in orthanc.rest("/plugins")  # type: ignore[operator]
    assert httpx.get(f"{orthanc.url}/system", trust_env=False).status_code == 401


def test_data_survive_a_kill_and_a_restart(new_orthanc: Callable[..., OrthancServer]) -> None:
    server = new_orthanc(dicom=True).start()
    first = server.pid
    server.rest("/tools/create-dicom", "POST", {"Tags": {"PatientName": "Survivor", "Modality": "OT"}})
    assert server.kill() == -9
    server.start()
    assert len(server.rest("/instances")) == 1  # type: ignore[arg-type]
    assert server.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_close_leaves_nothing(new_orthanc: Callable[..., OrthancServer]) -> None:
    server = new_orthanc().start()
    pid = server.pid
    server.close()
    assert not server.directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
