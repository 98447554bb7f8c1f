"""Workers are configured once, restarted in their slot and ended with the service. One service holds a state."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orthanc_plugin.config.read import parse_section
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.service import workers
from orthanc_plugin.service.admitting import AdmissionLoop
from orthanc_plugin.service.main import worker_greeting
from orthanc_plugin.service.state import own_state
from orthanc_plugin.service.workers import Supervisor
from tests.support.servers.orthanc_server import wait_until

OBEDIENT = "import sys; print('told', sys.stdin.readline().strip(), flush=True); sys.stdin.read(); print('left')"
STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
SHORT_LIVED = "import sys; sys.exit(3)"


@contextmanager
def supervised(directory: Path, program: str, count: int = 1) -> Iterator[Supervisor]:
    supervisor = Supervisor(count, lambda slot: [sys.executable, "-c", program], b"section\n", directory)
    stopping = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stopping,))
    thread.start()
    try:
        yield supervisor
    finally:
        stopping.set()
        thread.join()


def pids(supervisor: Supervisor) -> list[int]:
    return [state.pid for state in supervisor.states() if state.pid]


def log(directory: Path, slot: int = 0) -> str:
    file = directory / f"worker-{slot}.log"
    return file.read_text() if file.exists() else ""


def test_workers_are_told_and_leave_at_end_of_file(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, count=2) as supervisor:
        wait_until(lambda: all("told section" in log(tmp_path, slot) for slot in (0, 1)))
        assert len(set(pids(supervisor))) == 2
    assert all("left" in log(tmp_path, slot) for slot in (0, 1))
    assert [(state.pid, state.last_exit) for state in supervisor.states()] == [(None, 0), (None, 0)]


def test_killed_worker_comes_back_in_its_slot(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT) as supervisor:
        first = wait_until(lambda: pids(supervisor))[0]
        supervisor._slots[0]._process.kill()  # type: ignore[union-attr]
        wait_until(lambda: pids(supervisor) not in ([], [first]))
        assert (supervisor.states()[0].restarts, supervisor.states()[0].last_exit) == (1, -9)


def test_each_start_waits_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FIRST_DELAY_S", 0.2)
    with supervised(tmp_path, SHORT_LIVED) as supervisor:
        wait_until(lambda: supervisor.states()[0].restarts >= 2)
        assert supervisor._slots[0]._delay >= 0.8
        assert supervisor.states()[0].last_exit == 3


def test_worker_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ASKED_S", 0.3)
    monkeypatch.setattr(workers, "TERMINATED_S", 0.3)
    with supervised(tmp_path, STUBBORN) as supervisor:
        wait_until(lambda: "up" in log(tmp_path))
        began = time.monotonic()
    assert pids(supervisor) == []
    assert time.monotonic() - began < 5


def test_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LOG_LIMIT_BYTES", 10)
    (tmp_path / "worker-0.log").write_text("of an older worker")
    with supervised(tmp_path, OBEDIENT):
        wait_until(lambda: "told" in log(tmp_path))
    assert (tmp_path / "worker-0.log.1").read_text() == "of an older worker"


def test_worker_gets_the_whole_section_with_passwords() -> None:
    archive = {"Url": "http://127.0.0.1:1/dicom-web", "User": "u", "Password": "pass:word"}
    configuration = parse_section({"StateDirectory": "/state", "Archives": {"a": archive}, "Workers": 2}, {})
    secret, section, rest = worker_greeting(configuration).decode().split("\n")
    assert (secret, rest) == ("", "")
    assert parse_section(json.loads(section), {}) == configuration


def test_one_service_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_plugin.service.state.PREDECESSOR_STOP_S", 0.0)
    state = tmp_path / "state"
    with own_state(state), pytest.raises(ConfigError, match=f"StateDirectory {state} is in use"), own_state(state):
        pass
    with own_state(state):
        pass


def test_state_is_closed_to_others(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "jobs.db").touch(mode=0o644)
    with own_state(state):
        assert [state.stat().st_mode & 0o777, (state / "jobs.db").stat().st_mode & 0o777] == [0o700, 0o600]


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "passwd").touch()
    (tmp_path / "passwd").chmod(0o644)
    mode = tmp_path.stat().st_mode
    with pytest.raises(ConfigError, match="holds files of something else"), own_state(tmp_path):
        pass
    assert (tmp_path.stat().st_mode, (tmp_path / "passwd").stat().st_mode & 0o777) == (mode, 0o644)


def test_unusable_state_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"StateDirectory .*file/state cannot be used"),
        own_state(tmp_path / "file" / "state"),
    ):
        pass


class Stumbles:
    """An admission whose first round fails."""

    waiting = 2
    held_up = ("2 series: archive far is away",)

    def __init__(self) -> None:
        self.rounds = 0

    def tick(self, now: float) -> None:
        self.rounds += 1
        if self.rounds == 1:
            raise ValueError("Doe^Jane")


def test_admission_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    admission, stopping = Stumbles(), threading.Event()
    loop = AdmissionLoop(admission)
    thread = threading.Thread(target=loop.run, args=(stopping,))
    thread.start()
    first_error = wait_until(lambda: loop.state().error)
    wait_until(lambda: admission.rounds >= 2 and not loop.state().error)
    stopping.set()
    thread.join()
    assert first_error.startswith("ValueError at test_workers.py:")
    assert "Doe" not in caplog.text + first_error
    assert (loop.state().waiting_series, loop.state().held_up) == (2, ("2 series: archive far is away",))
