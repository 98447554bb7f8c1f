"""Which structure of one object is which of another: by a mapping, by code, or by name.

Codes are compared as TG-263 knows them, so that "Lung, left side" and "Left lung" are one structure, and SNOMED RT
codes of older archives count as the SNOMED CT codes that replaced them. Names are compared by their words, so that
`Lung_L`, `left lung` and `Lung left` are one name. A mapping file comes before both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydicom.sr._snomed_dict import mapping as snomed_mapping

from orthanc_plugin.codes import ANATOMICAL_STRUCTURE, TISSUE, Code
from orthanc_plugin.domain.found_masks import FoundMasks
from orthanc_plugin.domain.masks import Mask, Segment, Segmentation
from orthanc_plugin.errors import ConfigError
from orthanc_plugin.results.rt.tg263 import PRIMARY_NAMES, primary_name
from orthanc_plugin.validation.csv_input import read_csv

_NO_STRUCTURE = {ANATOMICAL_STRUCTURE.value, TISSUE.value, "113343008", "85756007", "123037004"}
"""Codes that name no structure: editors write them where they have lost the code."""
_SIDES = {"l": "left", "lt": "left", "r": "right", "rt": "right"}
_LEAST_OVERLAP = 0.5


class MatchedBy(StrEnum):
    """What says that two structures are the same."""

    MAPPING = "mapping"
    CODE = "code"
    TG263 = "tg263"
    NAME = "name"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """One structure of an object, with its place on the CT.

    layer: None where the structure has no mask; `reason` says why.
    parts: other structures that belong to it, by a mapping.
    """

    segment: Segment
    layer: Segmentation | None
    reason: str = ""
    parts: tuple[Structure, ...] = ()

    @property
    def label(self) -> str:
        """The names of all its parts."""
        return " + ".join((self.segment.label, *(part.label for part in self.parts)))

    @property
    def name(self) -> str:
        """The TG-263 name of its code, or else its label."""
        return tg263_name(self.segment) or self.segment.label

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Return the voxels of all its parts."""
        own = self.layer.mask(self.segment) if self.layer is not None else np.zeros(shape, bool)
        for part in self.parts:
            own = own | part.mask(shape)
        return own


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Structures of the AI and of the expert that are the same; one is None where the other side lacks it.

    doubt: why a structure of that name could not be paired.
    """

    ai: Structure | None
    expert: Structure | None
    matched_by: MatchedBy | None = None
    doubt: str = ""

    @property
    def name(self) -> str:
        """Name of the structure: that of TG-263, or else the AI's."""
        sides = [side for side in (self.ai, self.expert) if side is not None]
        return next((side.name for side in sides if tg263_name(side.segment)), sides[0].name)


Mapped = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Per row of a mapping file: names of the expert's structures, and of the AI's; each in words."""


def structures_of(found: FoundMasks) -> tuple[Structure, ...]:
    """List the structures of an object, those without a mask too."""
    kept = [Structure(segment, layer) for layer in found.layers for segment in layer.segments]
    refused = {structure.number: reason for structure, reason in found.refused}
    lost = [Structure(s, None, refused[s.number]) for s in found.segments if s.number in refused]
    return tuple(sorted((*kept, *lost), key=lambda one: one.segment.number))


def read_mapping(file: Path) -> Mapped:
    """Read a mapping file: CSV with the columns `expert` and `ai`.

    A cell holds a name, a code, or several joined by ` + `, which are united.

    Raises
    ------
    ConfigError
        If the file is not such a table.
    """
    mapped = {}
    for row in read_csv(file, "mapping file", ("expert", "ai")):
        sides = [tuple(part.strip() for part in row[side].split(" + ")) for side in ("expert", "ai")]
        if not all(all(side) for side in sides):
            raise ConfigError(f"the mapping file {file.name} has a row without a name on one side")
        mapped[" + ".join(sides[0])] = sides[0], sides[1]
    return mapped


def pair_structures(ai: Sequence[Structure], expert: Sequence[Structure], mapped: Mapped) -> tuple[Pair, ...]:
    """Pair the structures of an AI object and of an expert's; what has no partner is a pair of its own."""
    left, right = list(ai), list(expert)
    pairs = list(_by_mapping(left, right, mapped))
    for by, key in _KEYS.items():
        pairs += _by_key(left, right, by, key)
    return (*pairs, *(Pair(None, one) for one in right), *(Pair(one, None) for one in left))


def pair_by_overlap(pairs: Iterable[Pair], shape: tuple[int, ...]) -> tuple[Pair, ...]:
    """Pair what has no partner with what covers most of the same voxels, from a Dice of 0.5.

    For edits of one of our objects only: there a structure that lost its code and its name is still in its place.
    """
    pairs = list(pairs)
    done = [pair for pair in pairs if (pair.ai is not None and pair.expert is not None) or pair.doubt]
    alone = [pair for pair in pairs if pair not in done]
    ais = [(pair.ai, pair.ai.mask(shape)) for pair in alone if pair.ai is not None]
    experts = [(pair.expert, pair.expert.mask(shape)) for pair in alone if pair.expert is not None]
    ranked = sorted(
        ((_dice(a, b), i, j) for i, (_, a) in enumerate(ais) for j, (_, b) in enumerate(experts)), reverse=True
    )
    taken_ai: set[int] = set()
    taken_expert: set[int] = set()
    for dice, i, j in ranked:
        if dice >= _LEAST_OVERLAP and i not in taken_ai and j not in taken_expert:
            done.append(Pair(ais[i][0], experts[j][0], MatchedBy.OVERLAP))
            taken_ai.add(i)
            taken_expert.add(j)
    done += [Pair(None, one) for j, (one, _) in enumerate(experts) if j not in taken_expert]
    return (*done, *(Pair(one, None) for i, (one, _) in enumerate(ais) if i not in taken_ai))


def code_key(segment: Segment) -> str:
    """Return what structures of the same code share; empty where the code names no structure."""
    kind, side = current(segment.type), current(segment.modifier) if segment.modifier else None
    if kind.value in _NO_STRUCTURE:
        return ""
    return primary_name(kind, side) or f"{kind.scheme}:{kind.value}:{side.value if side else ''}"


def name_key(segment: Segment) -> str:
    """Return what structures of the same name share."""
    words = re.sub(r"[\W_]+", " ", segment.label.casefold()).split()
    return " ".join(sorted(_SIDES.get(word, word) for word in words))


def tg263_name(segment: Segment) -> str:
    """Return the TG-263 name of the code of a structure, or else its label if that is such a name; empty if neither."""
    side = current(segment.modifier) if segment.modifier else None
    return primary_name(current(segment.type), side) or _TG263.get(segment.label.casefold(), "")


def current(code: Code) -> Code:
    """Return the SNOMED CT code of a SNOMED RT code; others as they are."""
    value = snomed_mapping["SRT"].get(code.value) if code.scheme in ("SRT", "SNM3", "99SDM") else None
    return Code(value, "SCT", code.meaning) if value else code


_TG263 = {name.casefold(): name for name in PRIMARY_NAMES.values()}
_KEYS = {MatchedBy.CODE: code_key, MatchedBy.TG263: tg263_name, MatchedBy.NAME: name_key}


def _by_key(
    left: list[Structure], right: list[Structure], by: MatchedBy, key: Callable[[Segment], str]
) -> Iterator[Pair]:
    """Pair what shares a key; both lists lose what was paired. Several of one key on a side stay for the next key."""
    groups: dict[str, tuple[list[Structure], list[Structure]]] = defaultdict(lambda: ([], []))
    for side, structures in enumerate((left, right)):
        for one in structures:
            if text := key(one.segment):
                groups[text][side].append(one)
    for ais, experts in groups.values():
        if len(ais) == len(experts) == 1:
            left.remove(ais[0])
            right.remove(experts[0])
            yield Pair(ais[0], experts[0], by)
        elif by is MatchedBy.NAME and ais and experts:
            for one in experts:
                right.remove(one)
                yield Pair(None, one, doubt=f"{len(ais)} structures of the AI and {len(experts)} of the expert have "
                           "this name; pair them by a mapping file")  # fmt: skip


def _by_mapping(left: list[Structure], right: list[Structure], mapped: Mapped) -> Iterator[Pair]:
    for expert_names, ai_names in mapped.values():
        experts, ais = _named(right, expert_names), _named(left, ai_names)
        if not experts and not ais:
            continue
        for one in (*experts, *ais):
            (right if one in experts else left).remove(one)
        yield Pair(_united(ais), _united(experts), MatchedBy.MAPPING if ais and experts else None)


def _named(structures: Sequence[Structure], names: Sequence[str]) -> list[Structure]:
    wanted = {name.casefold() for name in names}
    return [one for one in structures if wanted & {one.segment.label.casefold(), one.name.casefold(),
            current(one.segment.type).value.casefold()}]  # fmt: skip


def _united(structures: Sequence[Structure]) -> Structure | None:
    return replace(structures[0], parts=tuple(structures[1:])) if structures else None


def _dice(one: Mask, other: Mask) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0
