"""The plugin as Orthanc loads it, with stand-ins for the service."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases.plugin_case import Load, Receiver
from tests.support.fakes.orthanc import FakeOrthanc
from tests.support.fakes.service import fake_python
from tests.support.servers.orthanc_server import PLUGIN_SCRIPT


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads the plugin script as Orthanc does, with the given orthanc.json; stops it at the end."""
    with ExitStack() as plugins:

        def load(**configuration: object) -> tuple[Any, FakeOrthanc]:
            orthanc = FakeOrthanc(json.dumps(configuration))
            monkeypatch.setitem(sys.modules, "orthanc", orthanc)
            spec = importlib.util.spec_from_file_location("edge_under_test", PLUGIN_SCRIPT)
            assert spec is not None
            assert spec.loader is not None
            plugin: Any = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, "edge_under_test", plugin)
            spec.loader.exec_module(plugin)
            plugins.callback(plugin.EDGE.stop)
            return plugin, orthanc

        yield load


@pytest.fixture
def own_python(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Section that starts the stand-in service; `fake` is how it behaves."""

    def section(**fake: object) -> dict[str, object]:
        return {
            "Service": {"Python": str(fake_python(tmp_path))},
            "StateDirectory": str(tmp_path / "state"),
            "Fake": {"Events": str(tmp_path / "events"), **fake},
        }

    return section


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
