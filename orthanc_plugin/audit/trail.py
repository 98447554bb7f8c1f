"""The log on disk: one file a month, one JSON object a line, and each line bound to all before it by a digest.

A line that is changed, removed or moved breaks the chain. The number and digest of the last line are kept in a second
file, so that lines cut off at the end are missed, too. With `Audit.Key` the digests are keyed: then nobody without the
key can write a chain that fits. Who can write the folder and knows the key, or there is none, could rewrite everything;
a copy of the head elsewhere (`audit verify --head`, syslog) shows that as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from orthanc_plugin.audit.event import Event, event_of

HEAD_FILE, LOCK_FILE = "audit.head", "audit.lock"
_NOTHING = "0" * 64
_PREFIX, _SUFFIX = "audit-", ".log"
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """Number and digest of a line; 0 before the first."""

    number: int = 0
    digest: str = _NOTHING

    def __str__(self) -> str:
        """Write it as `audit verify --head` reads it."""
        return f"{self.number}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the log."""

    head: Head
    event: Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of the log found. head: the last line; problems: empty if nothing was changed."""

    entries: int
    head: Head
    problems: tuple[str, ...]


class Trail:
    """The log of one state directory. Several processes may write to it.

    Parameters
    ----------
    state : Path
        The state directory.
    key : str
        Key of the digests; empty for plain digests.
    """

    def __init__(self, state: Path, key: str = "") -> None:
        self._folder, self._key = state, key.encode()

    def append(self, *events: Event) -> Head:
        """Write events as lines at the end; OSError if that is impossible."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            kept = self._kept()
            first, head = kept if kept else (Head(), Head())
            head = self._caught_up(head)
            for event in events:
                head = self._write(event, head)
            self._keep(first, head)
        return head

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Read the lines with higher numbers, in order; lines that are broken are left out (`verify` names them)."""
        for file in self.files():
            last = _entry(_last_line(file)) if after else None
            if last is not None and last.head.number <= after:
                continue
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                entry = _entry(line)
                if entry is not None and entry.head.number > after:
                    yield entry

    def files(self) -> list[Path]:
        """Return the files, the oldest first."""
        return sorted(self._folder.glob(f"{_PREFIX}????-??{_SUFFIX}"))

    def last_number(self) -> int:
        """Return the number of the last line, as the head file says."""
        kept = self._kept()
        return kept[1].number if kept else 0

    def verify(self, known: Head | None = None) -> Verdict:
        """Check every line.

        Parameters
        ----------
        known : Head, optional
            A head of an earlier time that was kept elsewhere: this line must be there, unchanged.
        """
        with self._locked():
            kept = self._kept()
            problems = list(self._problems(kept[0] if kept else Head(), known))
            entries = list(self.entries())
        last = entries[-1].head if entries else (kept[0] if kept else Head())
        if kept is None and (entries or known):
            problems.append(f"{HEAD_FILE} is missing: lines at the end may be, too")
        if kept is not None and last != kept[1]:
            problems.append(f"the log ends at line {last.number}, but its head is line {kept[1].number}")
        return Verdict(len(entries), last, tuple(problems))

    def forget_before(self, day: date) -> int:
        """Remove the files of months that ended before a day, and return how many; the rest can still be verified."""
        old = [file for file in self.files() if file.stem < f"{_PREFIX}{day:%Y-%m}"]
        if not old:
            return 0
        with self._locked():
            kept = self._kept()
            left = [entry.head for file in old for entry in _entries_of(file)]
            if kept is not None and left:
                self._keep(left[-1], kept[1])
            for file in old:
                file.unlink()
        return len(old)

    def _problems(self, head: Head, known: Head | None) -> Iterator[str]:
        found = known is None or known.number <= head.number
        for file in self.files():
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                place, entry = f"{file.name} line {number}", _entry(line)
                if entry is None:
                    yield f"{place}: is not a record of this log"
                    continue
                if entry.head.number != head.number + 1:
                    yield f"{place}: has number {entry.head.number}, but {head.number + 1} comes next"
                elif not hmac.compare_digest(entry.head.digest, self._digest(line, head)):
                    yield f"{place}: does not fit its digest: it or the line before was changed, or the key is another"
                head = entry.head
                if known is not None and head.number == known.number:
                    found = True
                    if head != known:
                        yield f"{place}: is not the line that was known as number {known.number}"
        if not found and known is not None:
            yield f"line {known.number}, which was known, is missing"

    def _write(self, event: Event, before: Head) -> Head:
        record: dict[str, object] = {"n": before.number + 1, **event.record()}
        digest = self._digest(_line(record), before)
        # A clock that was set back must not write into a month that ended: the order of files is that of lines.
        file = max([self._folder / f"{_PREFIX}{event.at:%Y-%m}{_SUFFIX}", *self.files()[-1:]])
        self._put(file, _line(record | {"digest": digest}))
        return Head(before.number + 1, digest)

    def _digest(self, line: str, before: Head) -> str:
        record = json.loads(line)
        record.pop("digest", None)
        content = f"{before.digest}\n{_line(record)}".encode()
        if self._key:
            return hmac.new(self._key, content, hashlib.sha256).hexdigest()
        return hashlib.sha256(content).hexdigest()

    def _put(self, file: Path, line: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _caught_up(self, head: Head) -> Head:
        """Return the head after a crash between a line and the note of it: the line counts."""
        files = self.files()
        text = _last_line(files[-1]) if files else ""
        last = _entry(text)
        if last is None or last.head.number != head.number + 1:
            return head
        return last.head if hmac.compare_digest(last.head.digest, self._digest(text, head)) else head

    def _kept(self) -> tuple[Head, Head] | None:
        """Read what is kept beside the log: the line before the first file, and the last one."""
        try:
            kept = json.loads((self._folder / HEAD_FILE).read_text())
            return Head(*kept["before"]), Head(*kept["last"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, before: Head, last: Head) -> None:
        kept = {"before": [before.number, before.digest], "last": [last.number, last.digest]}
        new = self._folder / f"{HEAD_FILE}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(kept))
        new.replace(self._folder / HEAD_FILE)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._folder.is_dir():
            yield
            return
        descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _line(record: dict[str, object]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def _entry(line: str) -> Entry | None:
    try:
        record = json.loads(line)
        return Entry(Head(int(record["n"]), str(record["digest"])), event_of(record))
    except (ValueError, KeyError, TypeError):
        return None


def _last_line(file: Path) -> str:
    with file.open("rb") as content:
        content.seek(max(0, content.seek(0, os.SEEK_END) - _LONGEST_LINE))
        lines = content.read().decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else ""


def _entries_of(file: Path) -> list[Entry]:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [entry for line in lines if (entry := _entry(line)) is not None]
