"""The commands of `orthanc-enrich models`: what is installed, converting and installing, checking and removing."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from orthanc_plugin.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from orthanc_plugin.catalog.card import ModelCard
    from orthanc_plugin.catalog.nnunet import SourceFile
    from orthanc_plugin.catalog.records import Record
    from orthanc_plugin.config.sections import Configuration

_SHOWN_LABELS = 6


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with. console: stdout; messages: stderr."""

    options: argparse.Namespace
    configuration: Configuration
    console: Console
    messages: Console

    @property
    def directory(self) -> Path | None:
        """Where the operator's models lie: `--models`, else `ModelsDirectory`."""
        named: Path | None = self.options.models
        return named or self.configuration.models_directory

    def needed_directory(self) -> Path:
        """`directory`, which has to be set."""
        if self.directory is None:
            raise ConfigError("ModelsDirectory is not set; set it in the configuration, or add --models DIR")
        return self.directory

    def say(self, facts: dict[str, object], *lines: str) -> None:
        """Facts for machines, or lines for people."""
        if self.options.json:
            self.console.print_json(data=facts, default=str)
        for line in () if self.options.json else lines:
            self.console.print(line, soft_wrap=True, markup=False)

    def tell(self, text: str) -> None:
        """A message on the way."""
        self.messages.print(text, soft_wrap=True, markup=False, highlight=False)


Command = Callable[[Desk], None]


def add_commands(
    models: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
) -> None:
    """Add the parsers; each leaves its function in `options.action` for `run`."""

    def add(
        name: str, action: Command, text: str, parents: Sequence[argparse.ArgumentParser] = (common,)
    ) -> argparse.ArgumentParser:
        sub = models.add_parser(name, help=text, description=text, parents=parents)
        sub.set_defaults(command=run, action=action)
        return sub

    def where(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--models", type=Path, metavar="DIR", help="folder of models (default: ModelsDirectory)")
        return sub

    where(add("list", list_models, "models that are installed"))
    where(add("show", show_model, "everything a model's card says")).add_argument("name")
    where(add("verify", verify_models, "check cards and graphs against their digests")).add_argument("name", nargs="?")
    where(add("remove", remove_model, "remove a model that was installed")).add_argument("name")

    text = "make a model of published weights (needs the extra convert)"
    convert = add("convert", convert_model, text, parents=())
    convert.add_argument("path", type=Path, help="folder or zip: nnU-Net v1, v2, TotalSegmentator, BodyPartRegression")
    convert.add_argument("--name", required=True, help="name of the model")
    convert.add_argument(
        "--out", dest="models", type=Path, metavar="DIR", help="folder of models (default: ModelsDirectory)"
    )
    convert.add_argument("--licence", help="of the weights, for card and results (default: as far as it is known)")
    _conversion_options(convert)

    text = "download published weights and convert them (needs the extra convert)"
    install = where(add("install", install_model, text, parents=()))
    install.add_argument("record", help="segthor, bpr or totalsegmentator:TASK (e.g. totalsegmentator:total_fast)")
    install.add_argument("--name", help="name of the model (default: the record's)")
    install.add_argument("--file", type=Path, action="append", default=[], help="zip got by hand; no network then")
    install.add_argument("--accept-licence", action="store_true", help="you accept the terms of the weights")
    _conversion_options(install)

    build = add("build", build_model, "rebuild the built-in model, bit by bit")
    build.add_argument("name")
    build.add_argument("--out", type=Path, default=Path("models"))
    build.set_defaults(models=None)


def _conversion_options(sub: argparse.ArgumentParser) -> None:
    """Options of convert and install; `--config` is nnU-Net's word there, so the configuration file has another."""
    sub.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    sub.add_argument(
        "--config",
        dest="configurations",
        action="append",
        type=_configuration_name,
        default=[],
        metavar="CONFIG",
        help="configuration of nnU-Net, e.g. 3d_fullres; given again, their outputs are averaged",
    )
    sub.add_argument("--folds", type=_folds, default=None, help="all, or numbers as 0,1,2 (default: those published)")
    sub.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="of the graphs (default: fp32)")
    sub.add_argument("--labels", type=Path, metavar="FILE", help="codes of labels (docs/models.md, mapping file)")
    sub.add_argument("--axes", type=_axes, help="order and direction the network expects, e.g. z:S,y:P,x:L")
    sub.add_argument("--replace", action="store_true", help="take the place of a model of this name")
    sub.add_argument(
        "--settings",
        dest="config",
        type=Path,
        metavar="FILE",
        help="orthanc.json or its folder (default: $ENRICHMENT_CONFIG); other commands call it --config",
    )


def _configuration_name(text: str) -> str:
    if Path(text).suffix or "/" in text:
        raise argparse.ArgumentTypeError(f"{text} is no configuration of nnU-Net; give an orthanc.json by --settings")
    return text


def _folds(text: str) -> tuple[int, ...] | str:
    numbers = text.split(",")
    if text == "all":
        return text
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError("all, or numbers with commas between")
    return tuple(int(number) for number in numbers)


def _axes(text: str) -> tuple[str, ...]:
    axes = tuple(text.split(","))
    if len(axes) != 3:
        raise argparse.ArgumentTypeError("three axes with commas between, e.g. z:S,y:P,x:L")
    return axes


def list_models(desk: Desk) -> None:
    """`models list`."""
    from orthanc_plugin.catalog import shelf

    cards = shelf.list_models(desk.directory)
    if desk.options.json:
        desk.console.print_json(data=[_summary(card) for card in cards])
        return
    table = Table("model", "version", "digest", "licence", "finds")
    for card in cards:
        name = f"{card.name} (test model)" if card.test_model else card.name
        table.add_row(*(escape(text) for text in (name, card.version, card.digest[:12], card.licence, _finds(card))))
    desk.console.print(table)


def _summary(card: ModelCard) -> dict[str, object]:
    fields = ("name", "version", "digest", "licence", "test_model")
    return {name: getattr(card, name) for name in fields} | {"engine": card.engine.value}


def _finds(card: ModelCard) -> str:
    if card.bpr:
        return f"level in the body, {len(card.bpr.look_up)} landmarks"
    keys = [label.key for label in card.labels]
    more = f" and {len(keys) - _SHOWN_LABELS} more" if len(keys) > _SHOWN_LABELS + 1 else ""
    return ", ".join(keys[:_SHOWN_LABELS] if more else keys) + more


def show_model(desk: Desk) -> None:
    """`models show`."""
    from orthanc_plugin.catalog import shelf

    card = shelf.find_model(desk.options.name, desk.directory)
    if desk.options.json:
        desk.console.print_json(data=dataclasses.asdict(card), default=str)
        return
    for key, value in _facts(card).items():
        desk.console.print(f"[bold]{key}[/bold]: {escape(str(value))}", soft_wrap=True)
    for line in (*_networks(card), *_regression(card)):
        desk.console.print(line, soft_wrap=True, markup=False)
    if not card.labels:
        return
    table = Table("number", "key", "label", "category", "type", "modifier")
    for label in card.labels:
        modifier = f"{label.modifier.value} {label.modifier.meaning}" if label.modifier else ""
        kind = f"{label.type.scheme} {label.type.value} {label.type.meaning}"
        table.add_row(str(label.number), label.key, escape(label.label), label.category.meaning, escape(kind), modifier)
    desk.console.print(table)


def _facts(card: ModelCard) -> dict[str, object]:
    facts: dict[str, object] = {
        key.replace("_", " "): getattr(card, key)
        for key in ("name", "version", "engine", "digest", "directory", "manufacturer", "licence", "citation")
    }
    facts |= {"intended use": card.intended_use, "limits": " ".join(card.limits), "axes": ", ".join(card.axes)}
    own = "of nnU-Net" if card.nnunet else "of BodyPartRegression"
    facts |= {"preprocessing": ", ".join(f"{key} {value:g}" for key, value in card.preprocessing.items()) or own}
    return facts | {"test model": "yes: rules refuse it on patients"} if card.test_model else facts


def _networks(card: ModelCard) -> Iterator[str]:
    """One line a configuration: how it sees the CT, its folds and its window."""
    from orthanc_plugin.catalog.nnunet_checks import configurations

    if card.nnunet is None:
        return
    if card.nnunet.frame:
        yield f"all on a grid of {card.nnunet.frame.spacing_mm:g} mm (spline order {card.nnunet.frame.order})"
    for key, _, one in configurations(card.nnunet):
        spacing = " x ".join("as stored" if mm is None else f"{mm:g}" for mm in one.spacing_mm)
        patch = "x".join(map(str, one.patch_size))
        mirrors = f"mirrored on {len(one.mirror_axes)} axes" if one.mirror_axes else "not mirrored"
        yield (
            f"{key.removeprefix('nnunet.')}: {one.name} of {one.framework}, {spacing} mm, patch {patch}, step"
            f" {one.tile_step:g}, {mirrors}, {len(one.graphs)} fold(s), {one.heads} outputs, {card.nnunet.precision}"
        )
    yield from _made_of(card.nnunet.source)


def _made_of(source: Sequence[SourceFile]) -> Iterator[str]:
    for file in source:
        yield f"made of {file.file}, SHA-256 {file.sha256}"


def _regression(card: ModelCard) -> Iterator[str]:
    """How a body part regression sees a slice, what it knows, and what it is made of."""
    if card.bpr is None:
        return
    model = card.bpr
    yield (
        f"slices of {model.size} x {model.size} pixels of {model.pixel_mm:g} mm, {model.low_hu:g} to {model.high_hu:g}"
        f" HU; {model.slope_mean:.3g} a mm toward the head"
    )
    yield "landmarks: " + ", ".join(f"{row.key} {row.mean:.1f} (sd {row.sd:.1f})" for row in model.look_up)
    yield from _made_of(model.source)


def verify_models(desk: Desk) -> None:
    """`models verify`."""
    from orthanc_plugin.catalog import shelf

    named = desk.options.name
    cards = (shelf.find_model(named, desk.directory),) if named else shelf.list_models(desk.directory)
    for card in cards:
        shelf.verify_model(card)
    verified = {card.name: card.digest for card in cards}
    desk.say({"verified": verified}, *(f"verified: {name} {digest}" for name, digest in verified.items()))


def remove_model(desk: Desk) -> None:
    """`models remove`."""
    from orthanc_plugin.catalog import install

    name, directory = desk.options.name, desk.needed_directory()
    install.require_installed(name, directory)
    if rules := [rule.name for rule in desk.configuration.rules if name in rule.models]:
        raise ConfigError(f"model {name} is named by the rules {', '.join(rules)}; change them before you remove it")
    install.remove_model(name, directory)
    desk.say({"removed": name}, f"removed: {name}")


def build_model(desk: Desk) -> None:
    """`models build`."""
    from orthanc_plugin.catalog import shelf

    card = shelf.build_model(desk.options.name, desk.options.out)
    _say_made(desk, "built", card)


def convert_model(desk: Desk) -> None:
    """`models convert`."""
    card = _converter(desk, desk.options.name, desk.options.licence, None)((desk.options.path,))
    _say_made(desk, "converted", card)


def install_model(desk: Desk) -> None:
    """`models install`."""
    from orthanc_plugin.catalog import install
    from orthanc_plugin.catalog.records import record_of

    record = record_of(desk.options.record)
    licence, name = record.licence, desk.options.name or record.model
    desk.tell(f"{record.name} is under {licence.identifier} ({licence.url}).\n{licence.terms}")
    install.require_licence(record, desk.options.accept_licence)
    _require_torch()
    convert = _converter(desk, name, None, record)
    with _download_bar(desk.messages) as progress:
        card = install.install_record(
            record,
            desk.needed_directory(),
            name,
            convert,
            accepted=desk.options.accept_licence,
            files=desk.options.file,
            replace=desk.options.replace,
            progress=progress,
        )
    _say_made(desk, "installed", card)


def _require_torch() -> None:
    """Nobody shall download gigabytes that cannot be converted."""
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("installing needs torch to convert the weights: pip install 'orthanc-enrichment[convert]'")


def _say_made(desk: Desk, made: str, card: ModelCard) -> None:
    facts: dict[str, object] = {made: card.name, "digest": card.digest, "directory": str(card.directory)}
    desk.say(
        facts | {"licence": card.licence},
        *(f"{key}: {value}" for key, value in facts.items()),
        f"licence: {card.licence}",
    )


def _converter(
    desk: Desk, name: str, licence: str | None, record: Record | None
) -> Callable[[Sequence[Path]], ModelCard]:
    """Conversion with the user's options, else the record's."""
    from orthanc_plugin.catalog.nnunet import Precision
    from orthanc_plugin.conversion import convert

    options, directory = desk.options, desk.needed_directory()
    folds = record.folds if record else None

    def run(files: Sequence[Path]) -> ModelCard:
        with _one_source(files) as source:
            return convert.convert_model(
                source,
                name,
                directory,
                configurations=options.configurations or (record.configurations if record else ()),
                folds=None if options.folds == "all" else options.folds or folds,
                precision=Precision(options.precision),
                labels=options.labels,
                axes=options.axes,
                licence=licence,
                replace=options.replace,
                progress=desk.tell,
            )

    return run


@contextmanager
def _one_source(files: Sequence[Path]) -> Iterator[Path]:
    """The only file, or a folder with what several zips hold."""
    from orthanc_plugin.conversion.unpack import unpacked

    if len(files) == 1:
        yield files[0]
        return
    with tempfile.TemporaryDirectory(prefix="enrich-install-") as folder, ExitStack() as stack:
        for file in files:
            for child in stack.enter_context(unpacked(file)).iterdir():
                shutil.move(child, folder)
        try:
            yield Path(folder)
        except ModelError as error:
            # The user knows the zips and what is in them, not where that was put together.
            raise ModelError(str(error).replace(f"{folder}/", "")) from error


@contextmanager
def _download_bar(messages: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages) as bars:
        tasks = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield progress
