"""The commands of `orthanc-enrich models` that make a model from published weights: convert and install."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk, models_option
from orthanc_plugin.cli.models import say_made
from orthanc_plugin.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from orthanc_plugin.catalog.card import ModelCard
    from orthanc_plugin.catalog.records import Record


def add_commands(commands: Commands) -> None:
    """Add `convert` and `install`."""
    text = "make a model from published weights (needs the extra convert)"
    convert = commands.add("convert", convert_model, text, config="--settings")
    formats = (
        "folder or zip: nnU-Net v1, v2, TotalSegmentator, BodyPartRegression, MONAI bundle; or FILE.onnx with --card"
    )
    convert.add_argument("path", type=Path, help=formats)
    convert.add_argument("--card", type=Path, metavar="CARD.json", help="what an ONNX file expects and gives")
    convert.add_argument("--name", required=True, help="name of the model")
    models_option(convert, "--out")
    convert.add_argument("--licence", help="licence of the weights, for card and results (default: as far as known)")
    _conversion_options(convert)

    text = "download published weights and convert them (needs the extra convert)"
    install = commands.add("install", install_model, text, config="--settings")
    install.add_argument("record", help="segthor, bpr or totalsegmentator:TASK (e.g. totalsegmentator:total_fast)")
    install.add_argument("--name", help="name of the model (default: the record's)")
    models_option(install)
    text = "zip that you downloaded yourself; the command then uses no network"
    install.add_argument("--file", type=Path, action="append", default=[], help=text)
    install.add_argument("--accept-licence", action="store_true", help="accept the terms of the weights")
    _conversion_options(install)


def _conversion_options(sub: argparse.ArgumentParser) -> None:
    """Add the options of both; `--config` is nnU-Net's word, so the settings file is named by `--settings`."""
    sub.add_argument(
        "--config",
        dest="configurations",
        action="append",
        type=_configuration_name,
        default=[],
        metavar="CONFIG",
        help="configuration of nnU-Net, e.g. 3d_fullres; if given several times, their outputs are averaged",
    )
    sub.add_argument(
        "--folds", type=_folds, default=None, help="all, or numbers such as 0,1,2 (default: those published)"
    )
    sub.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="precision of the graphs (default: fp32)"
    )
    sub.add_argument("--labels", type=Path, metavar="FILE", help="codes for the labels (docs/models.md, mapping file)")
    sub.add_argument("--axes", type=_axes, help="order and direction of the network's axes, e.g. z:S,y:P,x:L")
    sub.add_argument("--replace", action="store_true", help="replace an installed model of this name")


def _configuration_name(text: str) -> str:
    if Path(text).suffix or "/" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is not a configuration of nnU-Net; give an orthanc.json by --settings"
        )
    return text


def _folds(text: str) -> tuple[int, ...] | str:
    numbers = text.split(",")
    if text == "all":
        return text
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError("must be all, or numbers separated by commas")
    return tuple(int(number) for number in numbers)


def _axes(text: str) -> tuple[str, ...]:
    axes = tuple(text.split(","))
    if len(axes) != 3:
        raise argparse.ArgumentTypeError("must be three axes separated by commas, e.g. z:S,y:P,x:L")
    return axes


def convert_model(desk: Desk) -> None:
    """Convert published weights, or an ONNX file with its card, into a model."""
    desk.acts(What.SETTINGS)
    if desk.options.card is not None or desk.options.path.suffix == ".onnx":
        say_made(desk, "converted", _of_onnx(desk))
        return
    if (made := _of_bundle(desk)) is not None:
        say_made(desk, "converted", made)
        return
    card = _converter(desk, desk.options.name, desk.options.licence, None)((desk.options.path,))
    say_made(desk, "converted", card)


def _of_onnx(desk: Desk) -> ModelCard:
    from orthanc_plugin.conversion.onnx_file import convert_onnx

    options = desk.options
    if options.card is None:
        raise ConfigError("an ONNX file needs a card that says what it expects and gives: --card CARD.json")
    _refuse_options_of_nnunet(options)
    return convert_onnx(
        options.path, options.card, options.name, desk.needed_models_directory(),
        labels=options.labels, licence=options.licence, replace=options.replace, progress=desk.tell,
    )  # fmt: skip


def _of_bundle(desk: Desk) -> ModelCard | None:
    from orthanc_plugin.conversion.monai_bundle import convert_bundle, is_bundle

    options = desk.options
    if not is_bundle(options.path):
        return None
    _refuse_options_of_nnunet(options)
    return convert_bundle(
        options.path, options.name, desk.needed_models_directory(),
        labels=options.labels, licence=options.licence, replace=options.replace, progress=desk.tell,
    )  # fmt: skip


def _refuse_options_of_nnunet(options: argparse.Namespace) -> None:
    if options.configurations or options.folds or options.axes or options.precision != "fp32":
        raise ConfigError(
            "--config, --folds, --axes and --precision are for nnU-Net; the card says them of an ONNX file"
        )


def install_model(desk: Desk) -> None:
    """Download published weights and convert them."""
    from orthanc_plugin.catalog import install
    from orthanc_plugin.catalog.records import record_of

    desk.acts(What.SETTINGS)
    record = record_of(desk.options.record)
    licence, name = record.licence, desk.options.name or record.model
    desk.tell(f"{record.name} is under {licence.identifier} ({licence.url}).\n{licence.terms}")
    install.require_licence(record, desk.options.accept_licence)
    _require_torch()
    convert = _converter(desk, name, None, record)
    with download_bar(desk.messages) as progress:
        card = install.install_record(
            record,
            desk.needed_models_directory(),
            name,
            convert,
            accepted=desk.options.accept_licence,
            files=desk.options.file,
            replace=desk.options.replace,
            progress=progress,
        )
    say_made(desk, "installed", card)


def _require_torch() -> None:
    """Check this before anybody downloads gigabytes that cannot be converted."""
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("torch is needed to convert the weights: pip install 'orthanc-enrichment[convert]'")


def _converter(
    desk: Desk, name: str, licence: str | None, record: Record | None
) -> Callable[[Sequence[Path]], ModelCard]:
    """Return the conversion with the user's options, or else with the record's."""
    from orthanc_plugin.catalog.nnunet import Precision
    from orthanc_plugin.conversion import convert

    options, directory = desk.options, desk.needed_models_directory()
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
    """Yield the only file, or a folder with the content of several zips."""
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
            # The user knows the zips and their content, not the temporary folder.
            raise ModelError(str(error).replace(f"{folder}/", "")) from error


@contextmanager
def download_bar(messages: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file; give the function that moves them (`catalog.download.Progress`)."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

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
