"""Start-up checks: the runtime, the models that rules name, and pyradiomics if a rule measures radiomics."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orthanc_plugin.catalog.card import ModelCard
from orthanc_plugin.catalog.shelf import find_model, verify_model
from orthanc_plugin.config.sections import Configuration
from orthanc_plugin.errors import ConfigError, ModelError
from orthanc_plugin.inference.providers import Provider, choose_provider, open_session
from orthanc_plugin.rules.installed import Installed, check_rules, installed_models

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Result of the start-up checks. `provider` is the execution provider that really runs."""

    models: tuple[ModelCard, ...]
    provider: Provider


def check_readiness(configuration: Configuration) -> Readiness:
    """Check everything that the workers will need.

    Raises
    ------
    ConfigError
        If the runtime, a model or radiomics is missing or does not work. The message says what to do.
    """
    try:
        installed = installed_models(configuration.models_directory)
        check_rules(configuration, installed)
        names = _named_models(configuration, installed)
        models = tuple(_verified(name, configuration.models_directory) for name in names)
        provider = _running_provider(models, Provider(configuration.provider))
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if any(rule.radiomics for rule in configuration.rules) and importlib.util.find_spec("radiomics") is None:
        raise ConfigError(
            "a rule has Radiomics true but pyradiomics is not installed; see docs/install.md, or set Radiomics to false"
        )
    _log.info("provider %s, models %s", provider, ", ".join(f"{card.name} {card.version}" for card in models))
    return Readiness(models, provider)


def _named_models(configuration: Configuration, installed: Installed) -> list[str]:
    """List organ models, then the installed body part regressions."""
    organs = [name for rule in configuration.rules for name in (*rule.models, *rule.shadow)]
    locators = [rule.locate for rule in configuration.rules if rule.locate in installed.locators]
    return list(dict.fromkeys((*organs, *locators)))


def _verified(name: str, directory: Path | None) -> ModelCard:
    card = find_model(name, directory)
    verify_model(card)
    return card


def _running_provider(models: tuple[ModelCard, ...], wanted: Provider) -> Provider:
    """Return the provider that a session really gets.

    A short-lived process tries the GPU, so that the service itself holds none.
    """
    candidates = choose_provider(wanted)
    graphs = [card.directory / graph.file for card in models for graph in card.graphs]
    if candidates == (Provider.CPU,) or not graphs:
        return candidates[-1]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_try, min(graphs, key=lambda graph: graph.stat().st_size), wanted).result(timeout=60)


def _try(graph: Path, wanted: Provider) -> Provider:
    return open_session(graph, wanted)[1]
