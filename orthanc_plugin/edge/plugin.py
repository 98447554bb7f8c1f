"""Orthanc's end of the enrichment: it hints that a CT series is stable, and keeps the service running.

Orthanc's Python plugin loads this one file into its own interpreter ("PythonScript" in orthanc.json). The file uses
only the standard library, works with Python 3.11 (plugin 4.0) to 3.13 (plugin 5.0), and does nothing slow in a
callback: all callbacks share one interpreter lock, and a REST callback has a C stack of 100 KiB. A wrong setting never
stops Orthanc; the status page at /enrichment shows it. docs/plugin.md describes settings, page and process protocol.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import http.client
import json
import os
import queue
import re
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import IO, Any, TypeVar, cast

import orthanc

HINTS_PATH = "/enrichment/api/v1/hints"
HINT_TIMEOUT_S, HINT_RETRY_S, HINTS_WAITING_MAX = 2.0, 5.0, 10_000
LOOK_TIMEOUT_S, LOOK_S = 2.0, 5.0
PROXY_WITHOUT_SERVICE = (502, 503, 504)
PORT_TIMEOUT_S, HEALTHY_S, BACKOFF_FIRST_S, BACKOFF_LAST_S = 120.0, 60.0, 1.0, 60.0
STOP_STEPS: tuple[tuple[signal.Signals | None, float], ...] = (
    (
        None,
        7.0,
    ),  # end-of-file on stdin; the service gives its workers 6 s, Orthanc itself needs 2.5 s (1.10.1, 2 cores)
    (signal.SIGTERM, 0.3),
    (signal.SIGKILL, 0.3),
)
EXIT_CONFIGURATION = 78  # sysexits.h, EX_CONFIG
RESOURCE = "(studies|series)/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})"
STDERR_MAX_BYTES = 1_000_000
ANSWER_MAX_BYTES = 4096
HINTS_OFF = "Enrichment.Service.Secret is empty: no hints are sent, the service finds series by ReconcileSeconds"

MARK_PROPERTY, INDEX_PROPERTY = 20811, 20812  # Orthanc leaves its global properties from 1024 on to plugins
MARK_LOOKS_BACK = 100

# Of Orthanc's own settings, these decide about the section, and the service gets them. It gets nothing else.
ORTHANC_KEYS = ("HttpPort", "SslEnabled", "RemoteAccessAllowed", "AuthenticationEnabled")
SECTION, OVERRIDE = "Enrichment", "ENRICHMENT__"
# The keys of the section that the plugin reads itself. docs/plugin.md lists them.
OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("Service", "StateDirectory", "Archives"),
    "Service": ("Start", "Python", "Host", "Url", "InternalUrl", "Secret"),
}
TEXT_KEYS = ("Python", "Host", "Url", "InternalUrl", "Secret")  # an override of these is never read as JSON
TRUTH = {"true": True, "t": True, "yes": True, "y": True, "on": True, "1": True}
TRUTH |= {"false": False, "f": False, "no": False, "n": False, "off": False, "0": False}

Json = dict[str, Any]
Kind = TypeVar("Kind")


class SettingsError(ValueError):
    """A setting in orthanc.json is missing or wrong."""


class State(Enum):
    """What the service is doing."""

    WRONG_SETTING = "configuration error"
    STARTING = "starting"
    RUNNING = "running"
    TROUBLED = "running, but something needs a person"
    WAITING = "ended, will be started again"
    REMOTE = "runs elsewhere"
    AWAY = "runs elsewhere, does not respond"
    STOPPED = "stopped"


WITHOUT_IT = "Everything else in Orthanc works, and series that arrive now are enriched afterwards."
SAYS = {
    State.WRONG_SETTING: f"The enrichment service cannot start before its configuration is corrected. {WITHOUT_IT}",
    State.STARTING: "The enrichment service is starting.",
    State.RUNNING: "The enrichment service works.",
    State.WAITING: f"The enrichment service is down and will be started again by itself. {WITHOUT_IT}",
    State.REMOTE: "The enrichment service runs elsewhere.",
    State.TROUBLED: "The enrichment service runs, but something needs a person: see the last error.",
    State.AWAY: f"The enrichment service runs elsewhere and does not respond. {WITHOUT_IT}",
    State.STOPPED: "The enrichment service ends with Orthanc.",
}


@dataclass(frozen=True)
class Settings:
    """What the plugin itself reads of orthanc.json; `document` goes to the service as one line of JSON."""

    start: bool
    python: str
    host: str
    url: str
    internal_url: str
    archive: str
    stderr_file: str
    secret: str = field(repr=False)
    document: str = field(repr=False)


@dataclass(frozen=True)
class Status:
    """State of the service. `address`: where this process reaches it, empty while it does not answer."""

    state: State
    error: str = ""
    address: str = ""
    starts: int = 0


@dataclass(frozen=True)
class Hint:
    """A stable CT series, and what only Orthanc knows about it. It holds no patient data."""

    archive: str
    study_instance_uid: str
    series_instance_uid: str
    orthanc_series_id: str
    stable: bool
    remote_aet: str
    remote_ip: str
    origin: str
    anonymized_from: str
    modified_from: str
    again: bool = False  # a person asks: decide by the current rules, whatever was decided before


def read_settings(configuration: str, environ: Mapping[str, str]) -> Settings:
    """Read the section "Enrichment" from the text of Orthanc's whole configuration.

    The service judges the section. The plugin checks only what it needs itself, by the same rules: the cases in
    tests/support/cases/settings_files.py hold for both.

    Raises
    ------
    SettingsError
        With the key, what is wrong with it, and what is allowed.
    """
    whole = json.loads(configuration)
    if not isinstance(whole.get(SECTION), dict):
        raise SettingsError('orthanc.json has no object "Enrichment": add one as docs/plugin.md shows')
    if whole.get("RemoteAccessAllowed") is True and whole.get("AuthenticationEnabled") is False:
        raise SettingsError(
            "RemoteAccessAllowed is true and AuthenticationEnabled is false: anybody could read the images"
        )
    section = _with_archives(_overridden(_with_archives(whole[SECTION]), environ))
    service: Json = _get(section, "Service", {}, "")
    start = _get(service, "Start", True, "Service.")
    shared_secret = _fetched(_get(service, "Secret", "", "Service."), environ) or environ.get("ENRICHMENT_SECRET", "")
    settings = Settings(
        start=start,
        python=_get(service, "Python", "", "Service."),
        host=_get(service, "Host", "127.0.0.1", "Service."),
        url=_get(service, "Url", "", "Service.").rstrip("/"),
        internal_url=_get(service, "InternalUrl", "", "Service.").rstrip("/"),
        archive=_hinted_archive(section),
        stderr_file=os.path.join(
            _get(section, "StateDirectory", "/var/lib/orthanc-enrichment", ""), "service.stderr.log"
        ),
        secret=secrets.token_hex(32) if start else shared_secret,
        document=json.dumps(_passed_on(whole)),
    )
    _check(settings)
    return settings


def _passed_on(whole: Json) -> Json:
    """Return the section, and of Orthanc's own settings only what decides about it: no accounts, no passwords."""
    document = {key: whole[key] for key in (SECTION, *ORTHANC_KEYS) if key in whole}
    dicomweb = whole.get("DicomWeb")
    if isinstance(dicomweb, dict) and "Root" in dicomweb:
        document["DicomWeb"] = {"Root": dicomweb["Root"]}
    return document


def _with_archives(section: Json) -> Json:
    """Add the archive `local` if the section names none; an override may also empty them."""
    return section | ({"Archives": {"local": {}}} if section.get("Archives") in (None, {}) else {})


def _overridden(section: Json, environ: Mapping[str, str]) -> Json:
    """Put the values of ENRICHMENT__... into the keys that the plugin reads; the service judges the others."""
    for name in sorted(environ):
        if name.upper().startswith(OVERRIDE):
            section = _with_value(section, name[len(OVERRIDE) :].split("__"), environ[name], "")
    return section


def _with_value(holder: object, names: Sequence[str], text: str, place: str) -> Json:
    """Set one value; a name means a key whatever its case, hyphens and underscores."""
    tree: Json = holder if isinstance(holder, dict) else {}
    known = (*tree, *OWN_KEYS.get(place, ()))
    key = next((key for key in known if _squashed(key) == _squashed(names[0])), names[0].lower())
    if names[1:]:
        return tree | {key: _with_value(tree.get(key), names[1:], text, key)}
    return tree | {key: text if key in TEXT_KEYS else _from_json(text)}


def _squashed(name: str) -> str:
    return re.sub("[_-]", "", name).lower()


def _from_json(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text) if text[:1] in ("[", "{") or text == "null" else text
    return text


def _fetched(secret: str, environ: Mapping[str, str]) -> str:
    """Fetch a secret that is named instead of written: `file:/path`, or `credential:NAME` of systemd."""
    found = re.fullmatch("(file:)(/.+)|(credential:)([^/]+)", secret)
    if found is None:
        return secret
    path = found[2] or os.path.join(environ.get("CREDENTIALS_DIRECTORY", ""), found[4])
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise SettingsError("Enrichment.Service.Secret names a file or credential that cannot be read") from None


def _hinted_archive(section: Json) -> str:
    archives: Json = _get(section, "Archives", {}, "")
    return "local" if "local" in archives else str(next(iter(archives)))


def _check(settings: Settings) -> None:
    for key, url in (("Url", settings.url), ("InternalUrl", settings.internal_url)):
        if url and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url):
            raise SettingsError(f"Enrichment.Service.{key} must be http(s)://host[:port][/path] without user")
    if not os.path.isabs(settings.stderr_file):
        raise SettingsError("Enrichment.StateDirectory must be an absolute path")
    wrong_python = settings.python and not os.path.isabs(settings.python)
    if wrong_python or (settings.start and not os.access(settings.python, os.X_OK)):
        raise SettingsError(
            "Enrichment.Service.Python must be the absolute path of the Python of the virtual environment that holds"
            f" orthanc-enrichment; {settings.python!r} cannot be executed"
        )
    if not settings.start and not settings.url:
        raise SettingsError("Enrichment.Service.Start is false: set Enrichment.Service.Url to where the service runs")


def _get(holder: Json, key: str, default: Kind, prefix: str) -> Kind:
    value = holder.get(key, default)
    if isinstance(default, bool):
        value = TRUTH.get(f"{value:g}" if isinstance(value, float) else str(value).lower(), value)
    if not isinstance(value, type(default)):
        kinds: dict[type, str] = {bool: "true or false", str: "a text", dict: "an object"}
        raise SettingsError(f"Enrichment.{prefix}{key} must be {kinds[type(default)]}")
    return value


def read_hint(series_id: str, archive: str) -> Hint | None:
    """Make the hint for a series of this Orthanc, or None unless it is CT: our own SEG and SR start nothing.

    It takes three small requests: with Python plugin 4.0 each holds the interpreter lock.
    """
    series = _rest(f"/series/{series_id}")
    if series["MainDicomTags"].get("Modality") != "CT" or not series["Instances"]:
        return None
    study = _rest(f"/series/{series_id}/study")
    received = _rest(f"/instances/{series['Instances'][0]}/metadata?expand")
    return Hint(
        archive=archive,
        study_instance_uid=study["MainDicomTags"]["StudyInstanceUID"],
        series_instance_uid=series["MainDicomTags"]["SeriesInstanceUID"],
        orthanc_series_id=series_id,
        stable=bool(series.get("IsStable")),
        remote_aet=received.get("RemoteAET", ""),
        remote_ip=received.get("RemoteIP", ""),
        origin=received.get("Origin", ""),
        anonymized_from=series.get("AnonymizedFrom", ""),
        modified_from=series.get("ModifiedFrom", ""),
    )


def _rest(path: str) -> Json:
    answer: Json = json.loads(orthanc.RestApiGet(path))
    return answer


def post_hint(address: str, secret: str, hint: Hint) -> tuple[int, int]:
    """Send one hint to the service, without proxies or redirects.

    Returns
    -------
    (int, int)
        The HTTP status, and the last change of Orthanc that the service has read (0: unknown).
    """
    at = urllib.parse.urlsplit(address)
    connect = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    connection = connect(at.netloc, timeout=HINT_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "X-Enrichment-Secret": secret}
        body = {key: value for key, value in asdict(hint).items() if key != "again" or value}  # for older services
        connection.request("POST", at.path + HINTS_PATH, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, _changes_read(answer.read(ANSWER_MAX_BYTES))
    finally:
        connection.close()


def ask_remote(address: str) -> str:
    """Ask a service that runs elsewhere for any answer; return what is wrong, or nothing."""
    at = urllib.parse.urlsplit(address)
    connect = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    connection = connect(at.netloc, timeout=LOOK_TIMEOUT_S)
    try:
        connection.request("GET", at.path + HINTS_PATH)  # refused without a look at accounts: it needs the secret
        status = connection.getresponse().status
        return f"HTTP {status}" if status in PROXY_WITHOUT_SERVICE else ""
    except (OSError, http.client.HTTPException) as error:
        return unreached(error)
    finally:
        connection.close()


def unreached(error: Exception) -> str:
    """Say why there is no answer, in words."""
    for kinds, words in (
        (ConnectionRefusedError, "nothing listens there"),
        (TimeoutError, "no answer in time"),
        (socket.gaierror, "the name of its host is not known"),
        (ssl.SSLError, "the TLS handshake failed: check its certificate"),
        ((ConnectionError, http.client.HTTPException), "it broke off the connection"),
    ):
        if isinstance(error, kinds):
            return words
    return "it cannot be reached"


def _changes_read(answer: bytes) -> int:
    with contextlib.suppress(ValueError, AttributeError):
        read = json.loads(answer).get("changes_read")
        return read if isinstance(read, int) else 0
    return 0


class Mark:
    """The change of Orthanc from which series count, kept in Orthanc's own database.

    It is set when the plugin is loaded for the first time, even if no service can start, and it moves to what a
    service has read. A service that has no record of its own, the first one or one whose state is lost, begins here.
    `index` names that database, so that a service notices if an address leads to another Orthanc.
    """

    def __init__(self) -> None:
        self._loaded = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.report: Json | None = None
        self.index = ""

    def read(self) -> None:
        """Read the mark, or set it; call this when Orthanc has started."""
        self._read_index()
        try:
            kept = orthanc.GetGlobalProperty(MARK_PROPERTY, "")
            if kept:
                self.report = json.loads(kept)
            else:
                self._keep({"since": self._last_change_before_load(), "read_before": False})
        except Exception as error:  # Orthanc would log the message; the service waits and the page shows no mark
            log_error(f"the change from which series count cannot be kept: {describe(error)}")

    def _read_index(self) -> None:
        try:
            if not orthanc.GetGlobalProperty(INDEX_PROPERTY, ""):
                orthanc.SetGlobalProperty(INDEX_PROPERTY, uuid.uuid4().hex)
            self.index = orthanc.GetGlobalProperty(INDEX_PROPERTY, "")
        except Exception as error:  # the service then has no name for this Orthanc, as for one without plugin
            log_error(f"Orthanc does not keep a name of its index: {describe(error)}")

    def move(self, changes_read: int) -> None:
        """Move the mark forward to what the service has read."""
        if self.report is None:
            self.read()  # Orthanc did not answer when it started
        if self.report is not None and changes_read > self.report["since"]:
            self._keep({"since": changes_read, "read_before": True})

    def _keep(self, report: Json) -> None:
        self.report = report
        try:
            orthanc.SetGlobalProperty(MARK_PROPERTY, json.dumps(report))
        except Exception as error:  # the service can read all the same; the next start of Orthanc sets a new mark
            log_error(f"Orthanc does not keep the change from which series count: {describe(error)}")

    def _last_change_before_load(self) -> int:
        """Orthanc takes series a moment before it says that it has started, so its last change is too late."""
        last, back = int(_rest("/changes?last")["Last"]), MARK_LOOKS_BACK
        while True:
            since = max(0, last - back)
            rows = _rest(f"/changes?since={since}&limit={MARK_LOOKS_BACK}")["Changes"]
            if since == 0 or (rows and rows[0]["Date"] < self._loaded):
                break
            back *= 2  # a lot arrived in that moment, or the rows of deleted series are gone
        while older := [int(row["Seq"]) for row in rows if row["Date"] < self._loaded]:
            since = max(older)
            if len(older) < MARK_LOOKS_BACK:
                break
            rows = _rest(f"/changes?since={since}&limit={MARK_LOOKS_BACK}")["Changes"]
        return since


class Hints:
    """A bounded queue of stable series, and the thread that sends them.

    A hint only saves time: the service's reconcile finds a series whose hint was lost (full queue, restart).
    """

    def __init__(self, settings: Settings, address: Callable[[], str], mark: Mark) -> None:
        self._mark = mark
        self.sent = self.refused = self.dropped = 0
        self.error = self.off = "" if settings.secret else HINTS_OFF
        self._settings, self._address = settings, address
        self._waiting: queue.Queue[tuple[str, bool]] = queue.Queue(HINTS_WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="enrichment-hints", daemon=True)

    @property
    def waiting(self) -> int:
        """Number of hints that are not sent yet."""
        return self._waiting.qsize()

    def offer(self, series_id: str, again: bool = False) -> None:
        """Add a series to the queue, without ever blocking."""
        if not self._settings.secret:
            return
        try:
            self._waiting.put_nowait((series_id, again))
        except queue.Full:
            self.dropped += 1

    def start(self) -> None:
        """Start sending; call this once."""
        if self.error:
            log_error(self.error)
        else:
            self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end; `join` waits for it."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until no hint is being sent."""
        if self._thread.is_alive():
            self._thread.join(HINT_TIMEOUT_S + 1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._send_next()
            except Exception as error:  # the thread has no caller: log the error and go on
                log_error(f"a hint was lost: {describe(error)}")

    def _send_next(self) -> None:
        address = self._address()
        if not address:
            self._stopping.wait(0.5)
            return
        try:
            series_id, again = self._waiting.get(timeout=0.5)
        except queue.Empty:
            return
        with contextlib.suppress(orthanc.OrthancException):  # deleted meanwhile
            if hint := read_hint(series_id, self._settings.archive):
                self._send(address, replace(hint, again=again))

    def _send(self, address: str, hint: Hint) -> None:
        try:
            status, changes_read = post_hint(address, self._settings.secret, hint)
        except (OSError, http.client.HTTPException) as error:
            self._try_later(hint, unreached(error))
            return
        if status >= 500:
            self._try_later(hint, f"HTTP {status}")
        elif status >= 300:
            self.refused += 1
            self._complain(f"the service refused a hint: HTTP {status}")
        else:
            self.sent += 1
            self.error = ""
            self._mark.move(changes_read)

    def _try_later(self, hint: Hint, why: str) -> None:
        self._complain(f"the service does not take hints ({why}); they are kept and sent later")
        self.offer(hint.orthanc_series_id, hint.again)
        self._stopping.wait(HINT_RETRY_S)

    def _complain(self, error: str) -> None:
        if error != self.error:
            log_error(error)
        self.error = error


class Service:
    """The service as a child process. One thread starts it, watches it, restarts it and stops it.

    It ends with us, however we end: its stdin is our pipe, and end-of-file there tells it to stop.
    """

    def __init__(self, settings: Settings) -> None:
        elsewhere = Status(State.REMOTE, address=settings.internal_url or settings.url)
        self.status = Status(State.STARTING) if settings.start else elsewhere
        self._settings = settings
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        work = self._watch if settings.start else self._look
        self._thread = threading.Thread(target=work, name="enrichment-service", daemon=True)

    def start(self) -> None:
        """Start the service, or look whether it responds where it runs elsewhere; call this once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the service within 7.6 s. Calling this twice, or before `start`, is safe."""
        self._stopping.set()
        for how, patience_s in STOP_STEPS:
            if not self._thread.is_alive():
                break
            with self._lock:
                if self._process is not None:
                    _ask_to_end(self._process, how)
            self._thread.join(patience_s)
        self.status = replace(self.status, state=State.STOPPED, address="")

    def _look(self) -> None:
        while not self._stopping.is_set():
            error = ask_remote(self._settings.url)
            state = State.AWAY if error else State.REMOTE
            if not self._stopping.is_set():
                error = f"the service at {self._settings.url} does not respond ({error})" if error else ""
                self.status = replace(self.status, state=state, error=error)
            self._stopping.wait(LOOK_S)

    def _watch(self) -> None:
        delay_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run_once()
            except Exception as error:  # the thread has no caller: log the error and try again
                self._ended(State.WAITING, f"the service could not be started: {describe(error)}")
            if self.status.state is State.WRONG_SETTING:
                return
            if time.monotonic() - began > HEALTHY_S:
                delay_s = BACKOFF_FIRST_S
            self._stopping.wait(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_LAST_S)

    def _run_once(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            self.status = replace(self.status, state=State.STARTING, starts=self.status.starts + 1)
            process = self._process = _spawn(self._settings)
        said: queue.Queue[Json] = queue.Queue()
        threading.Thread(
            target=_listen, args=(process.stdout, said, self._note), name="enrichment-stdout", daemon=True
        ).start()
        error = ""
        try:
            _hand_over(process, self._settings)
            error = self._accompany(process, said)
        finally:
            _ask_to_end(process, signal.SIGKILL)  # the whole group: nothing that it started stays behind
            code = process.wait()
        if self._stopping.is_set():
            return
        state = State.WRONG_SETTING if code == EXIT_CONFIGURATION else State.WAITING
        self._ended(state, error or f"the service ended with exit code {code}; see its log")

    def _accompany(self, process: subprocess.Popen[str], said: queue.Queue[Json]) -> str:
        """Wait for the port, then for the end of the process; return the reason that the process gave."""
        try:
            first = said.get(timeout=PORT_TIMEOUT_S)
        except queue.Empty:
            return f"the service did not report its port within {PORT_TIMEOUT_S:.0f} s"
        if isinstance(port := first.get("port"), int):
            address = f"http://{_reachable(self._settings.host)}:{port}"
            self.status = replace(self.status, state=State.RUNNING, error="", address=address)
            orthanc.LogWarning(f"Enrichment: the service answers at {address}")
            process.wait()
            first = said.get_nowait() if not said.empty() else {}
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
        return str(first.get("error", ""))

    def _note(self, problem: str) -> None:
        """Show what the running service says of itself: what needs a person, or that nothing does any more."""
        if self.status.state in (State.RUNNING, State.TROUBLED):
            self.status = replace(self.status, state=State.TROUBLED if problem else State.RUNNING, error=problem)
            if problem:
                log_error(problem)

    def _ended(self, state: State, error: str) -> None:
        self.status = replace(self.status, state=state, error=error, address="")
        log_error(error)


def _spawn(settings: Settings) -> subprocess.Popen[str]:
    """Start the service in its own session. Never with sys.executable: inside Orthanc that is Orthanc."""
    with _stderr(settings.stderr_file) as stderr:
        return subprocess.Popen(
            [settings.python, "-P", "-m", "orthanc_plugin.cli", "service", "--stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")},
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )


def _stderr(path: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    """Open the file for what the service writes outside its log, emptied when large; fall back to Orthanc's stderr."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError:
        return contextlib.nullcontext()  # the service reports what is wrong with its StateDirectory
    if file.tell() > STDERR_MAX_BYTES:
        file.truncate(0)
    return file


def _hand_over(process: subprocess.Popen[str], settings: Settings) -> None:
    stdin = cast("IO[str]", process.stdin)
    with contextlib.suppress(BrokenPipeError):  # the process ended at once: its exit code says more
        stdin.write(f"{settings.secret}\n{settings.document}\n")
        stdin.flush()


def _listen(stdout: IO[str], said: queue.Queue[Json], note: Callable[[str], None]) -> None:
    """Put each JSON object that the service prints into `said`, and an empty one at the end; `note` gets problems."""
    with stdout:
        for line in stdout:
            with contextlib.suppress(ValueError):
                words = json.loads(line)
                if isinstance(words, dict) and isinstance(words.get("problem"), str):
                    note(words["problem"])
                elif isinstance(words, dict):
                    said.put(words)
    said.put({})


def _ask_to_end(process: subprocess.Popen[str], how: signal.Signals | None) -> None:
    """Close the stdin of the process, then send `how`, if given, to it and everything it started."""
    with contextlib.suppress(OSError):
        cast("IO[str]", process.stdin).close()
    if how is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)


def _reachable(host: str) -> str:
    if host in ("", "0.0.0.0", "::"):  # nosec B104  # noqa: S104 (compared, not bound)
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def log_error(text: str) -> None:
    """Write one line into Orthanc's log."""
    orthanc.LogError("Enrichment: " + " ".join(text.split()))


def describe(error: Exception) -> str:
    """Return kind and place of an unexpected error, but not its text, which could hold patient data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error).__name__ + (f" at line {trace.tb_lineno}" if trace else "")


class Edge:
    """What Orthanc calls: the change callback, the status page, and the link behind the button in Orthanc Explorer."""

    def __init__(self, settings: Settings | None, error: str = "") -> None:
        self._error = error
        self.mark = Mark()
        self.service = Service(settings) if settings else None
        self.hints = Hints(settings, lambda: self.status.address, self.mark) if settings else None
        self._url = settings.url if settings else ""
        # This object keeps the callbacks, and the module keeps this object: Python plugin 5.0 drops its own reference
        # only after the interpreter has ended, and Orthanc 1.12.7 then crashes at exit if that was the last one.
        self.routes = {
            "/enrichment": route(self.answer_page),
            "/enrichment/status": route(self.answer_status),
            "/enrichment/dashboard": route(self.answer_dashboard),
            f"/enrichment/(open|results)/{RESOURCE}": route(self.answer_lead),
            f"/enrichment/now/{RESOURCE}": route(self.answer_now, "POST"),
        }

    @property
    def status(self) -> Status:
        """State of the service, or the configuration error that keeps it from starting."""
        return self.service.status if self.service else Status(State.WRONG_SETTING, self._error)

    @property
    def link(self) -> str:
        """Address of the dashboard; empty while the service does not answer."""
        address = self.status.address
        return f"{self._url or address}/enrichment/" if address else ""

    def on_change(self, change: int, level: int, resource: str) -> None:
        """Handle Orthanc's changes. Events come one by one, so nothing slow may happen here."""
        if change == orthanc.ChangeType.ORTHANC_STARTED:
            self.mark.read()
        if self.service is None or self.hints is None:
            return
        if change == orthanc.ChangeType.STABLE_SERIES:
            self.hints.offer(resource)
        elif change == orthanc.ChangeType.ORTHANC_STARTED:
            self.service.start()
            self.hints.start()
        elif change == orthanc.ChangeType.ORTHANC_STOPPED:
            self.stop()

    def stop(self) -> None:
        """End the service and both threads in less than 10 s; a hint that is being sent finishes meanwhile."""
        if self.service is not None and self.hints is not None:
            self.hints.stop()
            self.service.stop()
            self.hints.join()

    def report(self) -> Json:
        """Build the content of /enrichment/status."""
        status, hints = self.status, self.hints
        counts = ("sent", "waiting", "refused", "dropped")
        return {
            "state": status.state.value,
            "says": SAYS[status.state],
            "error": status.error or (hints.error if hints else ""),
            "url": status.address,
            "dashboard": self.link,
            "starts": status.starts,
            "changes": self.mark.report,
            "index": self.mark.index,
            "hints": {name: getattr(hints, name) for name in counts} if hints else {},
        }

    def answer_status(self, output: orthanc.RestOutput, *_: str) -> None:
        """Answer with the report as JSON."""
        output.AnswerBuffer(json.dumps(self.report()), "application/json")

    def answer_page(self, output: orthanc.RestOutput, *_: str) -> None:
        """Answer with the report as a page that reloads every 5 seconds."""
        output.AnswerBuffer(_page(self.report(), "5"), "text/html; charset=utf-8")

    def answer_dashboard(self, output: orthanc.RestOutput, *_: str) -> None:
        """Lead to the dashboard."""
        self._lead(output, self.link)

    def answer_lead(self, output: orthanc.RestOutput, where: str, level: str, orthanc_id: str) -> None:
        """Lead to a study or series in the viewer, or to its results."""
        tags = _rest(f"/{level}/{orthanc_id}")["MainDicomTags"]
        study = tags if level == "studies" else _rest(f"/series/{orthanc_id}/study")["MainDicomTags"]
        uids = {name: (study | tags).get(name, "") for name in ("StudyInstanceUID", "SeriesInstanceUID")}
        if where == "open":
            end = "open?" + urllib.parse.urlencode({name: uid for name, uid in uids.items() if uid})
        elif tags.get("Modality") == "CT":
            end = "series/" + urllib.parse.quote(uids["SeriesInstanceUID"], safe="")
        else:
            end = "?" + urllib.parse.urlencode({"study": uids["StudyInstanceUID"]})
        self._lead(output, self.link and self.link + end)

    def answer_now(self, output: orthanc.RestOutput, level: str, orthanc_id: str) -> None:
        """Ask the service for new decisions on a series, or on those of a study; only CT is hinted."""
        series = [orthanc_id] if level == "series" else _rest(f"/studies/{orthanc_id}")["Series"]
        error = self._error
        if self.hints is not None:
            error = self.hints.off
            for one in series:
                self.hints.offer(one, again=True)
        output.AnswerBuffer(json.dumps({"asked": 0 if error else len(series), "error": error}), "application/json")

    def _lead(self, output: orthanc.RestOutput, link: str) -> None:
        """Lead to an address. Orthanc's own redirect is a 301: browsers keep it although the port may change."""
        output.AnswerBuffer(_page(self.report(), f"0;url={link}" if link else "5"), "text/html; charset=utf-8")


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Tell whether a page of this Orthanc, or a program, asks: browsers add their login to requests of any site."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urllib.parse.urlsplit(origin).netloc == headers.get("host")


def route(answer: Callable[..., None], method: str = "GET") -> Callable[..., None]:
    """Wrap a REST callback: it takes one plain method, and no exception reaches Orthanc's log.

    `answer` gets the output and the groups of the path.
    """

    def callback(output: orthanc.RestOutput, uri: str, **request: Any) -> None:
        try:
            headers = {name.lower(): value for name, value in request.get("headers", {}).items()}
            disguised = "x-http-method-override" in headers or "_method" in request.get("get", {})
            if request.get("method") != method or disguised:
                output.SendMethodNotAllowed(method)
                return
            if method != "GET" and not _is_ours(headers):
                output.SendHttpStatusCode(403)
                return
            output.SetHttpHeader("Cache-Control", "no-store")
            output.SetHttpHeader("X-Content-Type-Options", "nosniff")
            output.SetHttpHeader("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            answer(output, *request.get("groups", ()))
        except orthanc.OrthancException:  # no such study or series
            output.SendHttpStatusCode(404)
        except Exception as error:  # Orthanc would log the message, which may hold what was asked
            log_error(f"the status page failed: {describe(error)}")
            output.SendHttpStatusCode(500)

    return callback


def _page(report: Json, refresh: str) -> str:
    rows = {"Service": report["state"], "Last error": report["error"] or "none", "Starts": report["starts"]}
    rows |= {f"Hints {name}": count for name, count in report["hints"].items()}
    table = "".join(f"<tr><th>{html.escape(k)}<td>{html.escape(str(v))}" for k, v in rows.items())
    link = report["dashboard"]
    dashboard = f'<p><a href="{html.escape(link)}">Open the dashboard</a>' if link else ""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="{html.escape(refresh)}">
<title>Enrichment</title>
<style>body{{font:16px sans-serif;margin:2em}}th{{text-align:left;padding-right:1em}}</style>
<h1>Enrichment</h1><p><strong>{html.escape(report["says"])}</strong></p>
<table>{table}</table>{dashboard}<p>Research use only, not for diagnosis.</html>"""


EXPLORER_BUTTONS = """
(function () {
  var bar = document.createElement('nav');
  bar.id = 'enrichment';
  bar.setAttribute('aria-label', 'AI enrichment');
  bar.style.cssText = 'position:fixed;right:1em;bottom:1em;z-index:2000';
  var style = 'margin-left:.5em;padding:.5em 1em;border:0;border-radius:1em;background:#1f5f99;color:#fff;' +
    'font:bold 14px sans-serif;text-decoration:none;text-shadow:none;cursor:pointer';
  function add(tag, id, text) {
    var button = document.createElement(tag);
    button.id = 'enrichment-' + id;
    button.textContent = text;
    button.style.cssText = style;
    button.setAttribute('data-role', 'none');
    bar.appendChild(button);
    return button;
  }
  function link(id, text, path) {
    var button = add('a', id, text);
    button.href = '../enrichment/' + path;
    button.target = '_blank';
    button.rel = 'noopener noreferrer';
    button.setAttribute('data-ajax', 'false');
  }
  function ask(button, resource) {
    var request = new XMLHttpRequest();
    request.open('POST', '../enrichment/now/' + resource);
    request.onloadend = function () {
      var answer = request.status === 200 ? JSON.parse(request.responseText) : {};
      button.textContent = answer.asked ? 'Asked for' : 'Not possible: ' + (answer.error || 'HTTP ' + request.status);
    };
    request.send();
  }
  var shown = null;
  function draw() {
    var found = /^#(study|series)\\?uuid=([0-9a-f]{8}(?:-[0-9a-f]{8}){4})/.exec(window.location.hash);
    var resource = found ? (found[1] === 'study' ? 'studies/' : 'series/') + found[2] : '';
    if (resource === shown) { return; }
    shown = resource;
    bar.textContent = '';
    if (resource) {
      var now = add('button', 'now', 'Enrich now');
      now.type = 'button';
      now.onclick = function () { ask(now, resource); };
      link('results', 'Open results', 'results/' + resource);
      link('viewer', 'Open in viewer', 'open/' + resource);
    }
    link('dashboard', 'AI enrichment', 'dashboard');
  }
  function start() {
    document.body.appendChild(bar);
    draw();
    window.setInterval(draw, 500);  // Orthanc Explorer changes its address without an event
  }
  if (document.body) { start(); } else { document.addEventListener('DOMContentLoaded', start); }
})();
"""


def load() -> Edge:
    """Read the settings and register with Orthanc. A wrong setting is logged and shown, never raised."""
    try:
        edge = Edge(read_settings(orthanc.GetConfiguration(), os.environ))
    except SettingsError as error:
        log_error(str(error))
        edge = Edge(None, str(error))
    except Exception as error:  # an exception while loading would stop Orthanc
        log_error(f"the settings cannot be read: {describe(error)}")
        edge = Edge(None, f"the settings cannot be read: {describe(error)}")
    orthanc.RegisterOnChangeCallback(edge.on_change)
    for path, callback in edge.routes.items():
        orthanc.RegisterRestCallback(path, callback)
    orthanc.ExtendOrthancExplorer(EXPLORER_BUTTONS)
    atexit.register(edge.stop)  # in case Orthanc ends without ORTHANC_STOPPED
    return edge


EDGE = load()
