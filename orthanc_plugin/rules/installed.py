"""The installed models as rules see them, and the check of the rules against them.

A rule names organ models in Models and a body part regression model in Locate. A model that is not installed, or is of
the other kind, stops the start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orthanc_plugin.catalog.card import Engine
from orthanc_plugin.catalog.shelf import list_models
from orthanc_plugin.config.problems import nearest
from orthanc_plugin.config.rule import DEFAULT_LOCATOR, Rule
from orthanc_plugin.config.sections import SECTION, Configuration
from orthanc_plugin.domain.plan import Measure
from orthanc_plugin.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Installed:
    """Installed models.

    digests: digest of each model, by name.
    locators: names of the body part regression models.
    test_models: names of the models that were trained on phantoms only.
    """

    digests: Mapping[str, str]
    locators: frozenset[str] = field(default=frozenset())
    test_models: frozenset[str] = field(default=frozenset())

    @property
    def organ_models(self) -> frozenset[str]:
        """Names of the models that find organs."""
        return frozenset(self.digests) - self.locators


def installed_models(models_directory: Path | None) -> Installed:
    """Find the models of the directory and the built-in ones.

    Raises
    ------
    ModelError
        If a model cannot be used.
    """
    cards = list_models(models_directory)
    return Installed(
        {card.name: card.digest for card in cards},
        frozenset(card.name for card in cards if card.engine is Engine.BODY_PART_REGRESSION),
        frozenset(card.name for card in cards if card.test_model),
    )


def check_rules(configuration: Configuration, installed: Installed) -> None:
    """Refuse rules that name a model which is not installed or is of the wrong kind.

    Raises
    ------
    ConfigError
        With one line for each such model.
    """
    problems = [
        problem
        for number, rule in enumerate(configuration.rules)
        for problem in _problems(f"{SECTION}.Rules[{number}]", rule, installed)
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _problems(path: str, rule: Rule, installed: Installed) -> Iterator[str]:
    if rule.measure is Measure.EXPERT:  # no model runs
        return
    for key, model in (*(("Models", model) for model in rule.models), *(("Shadow", model) for model in rule.shadow)):
        if model not in installed.organ_models:
            known = model in installed.locators
            why = " (it finds no organs: name it in Locate)" if known else nearest(model, installed.organ_models)
            yield (
                f'{path}.{key}: "{model}" is not allowed{why};'
                f" allowed: installed models ({_listed(installed.organ_models)})"
            )
    yield from _location_problems(path, rule, installed)


def _location_problems(path: str, rule: Rule, installed: Installed) -> Iterator[str]:
    if rule.locate in installed.locators:
        return
    if rule.locate in installed.organ_models or rule.locate not in ("", DEFAULT_LOCATOR):
        known = rule.locate in installed.organ_models
        why = " (it is not a body part regression model)" if known else nearest(rule.locate, installed.locators)
        yield (
            f'{path}.Locate: "{rule.locate}" is not allowed{why};'
            f" allowed: installed body part regression models ({_listed(installed.locators)}), or empty"
        )
        return
    for key in rule.location_keys:
        remedy = "install one (orthanc-enrich models install bpr)" if rule.locate else "name one in Locate"
        yield f"{path}.{key}: needs a body part regression model, and there is none: {remedy}, or remove the key"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "there are none"
