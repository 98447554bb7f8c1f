"""The commands of `orthanc-enrich models` for models that are there: list, show, verify, remove, build."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from orthanc_plugin.audit.event import What
from orthanc_plugin.cli.desk import Commands, Desk, models_option
from orthanc_plugin.errors import ConfigError

if TYPE_CHECKING:
    from orthanc_plugin.catalog.card import ModelCard
    from orthanc_plugin.catalog.nnunet import SourceFile

_SHOWN_LABELS = 6


def add_commands(commands: Commands) -> None:
    """Add `list`, `show`, `verify`, `remove` and `build`."""
    models_option(commands.add("list", list_models, "list the models that are installed"))
    show = commands.add("show", show_model, "show everything that a model's card says")
    verify = commands.add("verify", verify_models, "check cards and graphs against their digests")
    remove = commands.add("remove", remove_model, "remove a model that was installed")
    for sub in (show, verify, remove):
        sub.add_argument("name", nargs="?" if sub is verify else None, help="name of the model")
        models_option(sub)
    build = commands.add("build", build_model, "rebuild the built-in model, bit for bit")
    build.add_argument("name", help="name of the model")
    build.add_argument("--out", type=Path, default=Path("models"), metavar="DIR", help="folder of models")
    build.set_defaults(models=None)


def list_models(desk: Desk) -> None:
    """List the installed models."""
    from orthanc_plugin.catalog import shelf

    cards = shelf.list_models(desk.models_directory)
    if desk.options.json:
        desk.print_json([_summary(card) for card in cards])
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
    """Print everything that a model's card says."""
    from orthanc_plugin.catalog import shelf

    card = shelf.find_model(desk.options.name, desk.models_directory)
    if desk.options.json:
        desk.print_json(dataclasses.asdict(card))
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
    return facts | {"test model": "yes: rules do not run it on patients"} if card.test_model else facts


def _networks(card: ModelCard) -> Iterator[str]:
    """Write one line for each configuration: its grid, patch, step, mirroring and folds."""
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
        yield f"made from {file.file}, SHA-256 {file.sha256}"


def _regression(card: ModelCard) -> Iterator[str]:
    """Describe a body part regression model: its input, its landmarks, and its source files."""
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
    """Check cards and graphs against their digests."""
    from orthanc_plugin.catalog import shelf

    named = desk.options.name
    cards = (shelf.find_model(named, desk.models_directory),) if named else shelf.list_models(desk.models_directory)
    for card in cards:
        shelf.verify_model(card)
    verified = {card.name: card.digest for card in cards}
    desk.say({"verified": verified}, *(f"verified: {name} {digest}" for name, digest in verified.items()))


def remove_model(desk: Desk) -> None:
    """Remove a model that no rule names."""
    from orthanc_plugin.catalog import install

    name, directory = desk.options.name, desk.needed_models_directory()
    desk.acts(What.SETTINGS)
    install.require_installed(name, directory)
    if rules := [rule.name for rule in desk.configuration.rules if name in (*rule.models, *rule.shadow)]:
        raise ConfigError(f"model {name} is named by the rules {', '.join(rules)}; change them before you remove it")
    install.remove_model(name, directory)
    desk.say({"removed": name}, f"removed: {name}")


def build_model(desk: Desk) -> None:
    """Rebuild the built-in model, bit for bit."""
    from orthanc_plugin.catalog import shelf

    card = shelf.build_model(desk.options.name, desk.options.out)
    say_made(desk, "built", card)


def say_made(desk: Desk, made: str, card: ModelCard) -> None:
    """Print which model was made, and where it lies."""
    facts: dict[str, object] = {made: card.name, "digest": card.digest, "directory": str(card.directory)}
    desk.say(
        facts | {"licence": card.licence},
        *(f"{key}: {value}" for key, value in facts.items()),
        f"licence: {card.licence}",
    )
