"""Build images without a container engine: carry out every step of a real Dockerfile in a Debian system in a folder.

It knows the instructions that this project uses, and refuses any other, so that no step passes untried. Each RUN and
COPY writes a layer, which is kept until the step, or what it copies, changes. What differs from an engine: the base is
made by debootstrap in place of the official image, and the way to the network is this machine's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts import roots

_VARIABLE = re.compile(r"(?<!\\)\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
_OPTION = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Image:
    """What a stage of a Dockerfile has made. layers: the lowest first; command: ENTRYPOINT and CMD."""

    layers: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    directory: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    digest: str = ""


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile with what follows them; lines that end with a backslash are joined."""
    kept = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(kept)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def build(dockerfile: Path, context: Path, arguments: dict[str, str], suite: str = "trixie") -> Image:
    """Carry out a Dockerfile and return its last stage."""
    return _Build(context, arguments, suite).run(dockerfile.read_text(encoding="utf-8"))


class _Build:
    def __init__(self, context: Path, arguments: dict[str, str], suite: str) -> None:
        self._context, self._given, self._suite = context, arguments, suite
        self._arguments: dict[str, str] = {}
        self._stages: dict[str, Image] = {}
        self._image, self._stage = Image(), ""

    def run(self, text: str) -> Image:
        for number, (name, rest) in enumerate(instructions(text)):
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                sys.exit(f"the instruction {name} is not known here: teach scripts/images.py what it does")
            step(rest)
            self._stages[self._stage or str(number)] = self._image
        return self._image

    def _filled(self, text: str) -> str:
        known = self._arguments | self._image.environment
        return _VARIABLE.sub(lambda m: known.get(m[1] or m[3]) or m[2] or "", text)

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self._arguments[name] = self._given.get(name, default)

    def _from(self, rest: str) -> None:
        base, _, self._stage = self._filled(rest).partition(" AS ")
        if base in self._stages:
            self._image = self._stages[base]
            return
        if not base.startswith("debian:13"):
            sys.exit(f"{base}: only Debian 13 has a stand-in here")
        self._image = Image(layers=(roots.debian(self._suite),), digest=_digest(self._suite))

    def _env(self, rest: str) -> None:
        pairs = (word.partition("=") for word in shlex.split(self._filled(rest)))
        self._image = replace(self._image, environment=self._image.environment | {k: v for k, _, v in pairs})

    def _user(self, rest: str) -> None:
        self._image = replace(self._image, user=rest)

    def _workdir(self, rest: str) -> None:
        self._image = replace(self._image, directory=rest)

    def _expose(self, rest: str) -> None:
        """Only a remark, in an engine too."""

    def _entrypoint(self, rest: str) -> None:
        self._image = replace(self._image, entrypoint=tuple(json.loads(rest)))

    def _cmd(self, rest: str) -> None:
        self._image = replace(self._image, command=tuple(json.loads(rest)))

    def _healthcheck(self, rest: str) -> None:
        self._image = replace(self._image, health=tuple(json.loads(rest.partition("CMD")[2])))

    def _run(self, rest: str) -> None:
        options, command = _options(rest)
        arguments = {name: self._arguments[name] for name in self._arguments if name != "DEBIAN"}
        points, below = [_cache_mount(text) for text in options.get("mount", ())], self._image.layers
        with self._layer("RUN", rest, json.dumps(arguments)) as layer:
            if layer is None:
                return
            env = roots.environment({**arguments, **self._image.environment})
            shell = f"cd {shlex.quote(self._image.directory)} && {command}"
            with roots.mounted(below, layer, points) as root:
                roots.run(roots.inside(root, ["/bin/sh", "-ec", shell], self._image.user), env)

    def _copy(self, rest: str) -> None:
        options, words = _options(self._filled(rest))
        *sources, target = words.split()
        stage = options.get("from", [""])[0]
        found = self._stages[stage].digest if stage else _content(self._context, sources)
        with self._layer("COPY", rest, found) as layer:
            if layer is None:
                return
            if stage:
                with roots.mounted(self._stages[stage].layers, layer.with_name(layer.name + ".from")) as root:
                    self._place([root / source.lstrip("/") for source in sources], layer, target, options)
            else:
                self._place([self._context / source for source in sources], layer, target, options)

    def _place(self, sources: Sequence[Path], layer: Path, target: str, options: dict[str, list[str]]) -> None:
        place = layer / str(Path(self._image.directory) / target).lstrip("/")
        into = target.endswith("/") or len(sources) > 1
        for source in sources:
            end = place / source.name if into and not source.is_dir() else place
            end.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, end, symlinks=True, dirs_exist_ok=True, ignore=_ignored)
            else:
                shutil.copy2(source, end)
            if mode := options.get("chmod"):
                end.chmod(int(mode[0], 8))

    def _layer(self, *what: str) -> _Layer:
        digest = _digest(self._image.digest, self._image.user, self._image.directory, *what)
        folder = roots.cache() / "layers" / digest
        self._image = replace(self._image, layers=(*self._image.layers, folder), digest=digest)
        return _Layer(folder, f"{what[0]} {what[1]}")


class _Layer:
    """A folder that takes what a step writes; `with` gives None if the step was carried out before."""

    def __init__(self, folder: Path, step: str) -> None:
        self._folder, self._step = folder, step
        self._draft = folder.with_name(folder.name + ".draft")

    def __enter__(self) -> Path | None:
        kept = self._folder.exists()
        sys.stderr.write(f"{'kept ' if kept else 'doing'} {self._step[:150]}\n")
        if kept:
            os.utime(self._folder)
            return None
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        return self._draft

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None and self._draft.exists():
            self._draft.rename(self._folder)
        shutil.rmtree(f"{self._draft}.from", ignore_errors=True)


def _options(rest: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    while match := _OPTION.match(rest):
        found.setdefault(match[1], []).append(match[2])
        rest = rest[match.end() :]
    return found, rest


def _cache_mount(text: str) -> roots.Point:
    """Return what `--mount=type=cache,target=...` mounts: a folder of the cache that all builds share."""
    values = dict(part.split("=", 1) for part in text.split(","))
    if values["type"] != "cache":
        sys.exit(f"--mount={text} is not known here")
    folder = roots.cache() / "mounts" / values["target"].strip("/").replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return roots.Point(values["target"], ("--bind", str(folder)))


def _ignored(folder: str, names: Iterable[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def _content(context: Path, sources: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        at = context / source
        files = sorted(p for p in at.rglob("*") if p.is_file()) if at.is_dir() else [at]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(context)} {file.stat().st_mode}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
