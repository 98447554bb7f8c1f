"""Finds the criteria of a rule that a series does not meet.

A criterion that the archive cannot answer is undecidable, never a silent "no match".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import IPvAnyNetwork

from orthanc_plugin.config.base import Range
from orthanc_plugin.config.rule import Match
from orthanc_plugin.domain.hounsfield import rescale_unit
from orthanc_plugin.rules.tags import SeriesTags

_SOP_CLASS_NAMES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "EnhancedCT",
    "1.2.840.10008.5.1.4.1.1.2.2": "LegacyEnhancedCT",
}


_RESCALE_TYPES = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
"""Defined terms (PS3.3 C.11.1.1.2). Anything else is a text of somebody, which no log or database repeats."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A criterion that a series does not meet.

    found: what the series has. It may be a free text of the hospital, so it is for the terminal, not for logs.
    undecidable: the archive does not know, so the rule is in error.
    """

    criterion: str
    found: str
    wanted: str
    private: bool = False
    undecidable: bool = False

    def __str__(self) -> str:
        """Describe the failure without the hospital's free texts."""
        if self.undecidable:
            return f"{self.criterion} cannot be decided: {self.found}"
        return f"{self.criterion}: {'another value' if self.private else self.found}, wanted {self.wanted}"


def failures_of(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    """Find the criteria that the tags do not meet, in the order of the schema; if it is not CT, only that."""
    yield from _listed("Archive", (tags.archive,), match.archive)
    no_ct = [
        *_listed("Modality", tags.modality, match.modality),
        *_listed("SOPClass", _names(tags.sop_class_uids), _names(match.sop_class)),
    ]
    yield from no_ct
    if not no_ct:
        yield from _image_failures(match, tags)
    yield from _known_to_orthanc("RemoteAET", tags.remote_aet, match.remote_aet)
    yield from _sent_from(tags.remote_ip, match.remote_ip)
    yield from _known_to_orthanc("Origin", tags.origin, match.origin)
    yield from _copy("AnonymizedFrom", tags.anonymized, match.anonymized_from)
    yield from _copy("ModifiedFrom", tags.modified, match.modified_from)


def _names(sop_classes: Iterable[str]) -> list[str]:
    return [_SOP_CLASS_NAMES.get(name, name) for name in sop_classes]


def _image_failures(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    if not tags.complete:
        yield Failure("ImageType", "the archive gives no whole headers, see SeriesMetadata", "", undecidable=True)
    yield from _image_type(match, tags)
    yield from _listed("BodyPartExamined", tags.body_part_examined, match.body_part_examined)
    yield from _text("SeriesDescription", tags.series_description, match.series_description)
    yield from _text("StudyDescription", tags.study_description, match.study_description)
    yield from _text("ProtocolName", tags.protocol_name, match.protocol_name)
    yield from _text("ConvolutionKernel", tags.convolution_kernel, match.convolution_kernel, private=False)
    yield from _ranged("Slices", tags.slices, match.slices)
    yield from _ranged("SliceThickness", tags.slice_thickness_mm, match.slice_thickness, " mm")
    yield from _ranged("Spacing", tags.spacing_mm, match.spacing, " mm")
    yield from _ranged("TimePoints", tags.time_points, match.time_points)
    yield from _ranged("Localizers", tags.localizers, match.localizers)
    yield from _ranged("ImagesPerPosition", tags.images_per_position, match.images_per_position)
    yield from _ranged("Orientations", tags.orientations, match.orientations)
    yield from _ranged("PixelSpacings", tags.pixel_spacings, match.pixel_spacings)
    yield from _below("StepRatioBelow", tags.step_ratio, match.step_ratio_below)
    yield from _ranged("StudyAgeDays", tags.study_age_days, match.study_age_days)
    if match.axial is not None and tags.axial is not match.axial:
        yield Failure("Axial", _truth(tags.axial), _truth(match.axial))
    if tags.rescale_types:
        wanted = tuple(dict.fromkeys(rescale_unit(text) for text in match.rescale_type))
        is_term = _RESCALE_TYPES.issuperset(tags.rescale_types)
        failures = _listed("RescaleType", tags.rescale_types, wanted)
        yield from (replace(failure, private=bool(tags.rescale_types) and not is_term) for failure in failures)


def _truth(value: bool | None) -> str:
    return "unknown" if value is None else str(value).lower()


def _listed(criterion: str, found: Sequence[str], wanted: Sequence[str]) -> Iterator[Failure]:
    allowed = {value.upper() for value in wanted}
    if wanted and not (found and all(value.upper() in allowed for value in found)):
        yield Failure(criterion, ", ".join(found) or "absent", " or ".join(wanted))


def _image_type(match: Match, tags: SeriesTags) -> Iterator[Failure]:
    wanted, unwanted = ({value.upper() for value in values} for values in (match.image_type.any, match.image_type.none))
    if wanted and not wanted & set(tags.image_types):
        yield Failure("ImageType", "\\".join(tags.image_types) or "absent", " or ".join(match.image_type.any))
    for value in tags.image_types:
        if value in unwanted:
            yield Failure("ImageType", value, f"no {value}")
    for kind, value in tags.kinds.items():
        if kind in match.exclude_kinds:
            yield Failure("ImageType", value, f"no {kind}")


def _text(criterion: str, found: Sequence[str], pattern: str, *, private: bool = True) -> Iterator[Failure]:
    if pattern and not any(re.search(pattern, value, re.IGNORECASE) for value in found):
        yield Failure(criterion, ", ".join(found) or "absent", f"like {pattern}", private=private and bool(found))


def _ranged(criterion: str, found: float | None, wanted: Range | None, unit: str = "") -> Iterator[Failure]:
    if wanted is not None and (found is None or found not in wanted):
        yield Failure(criterion, "unknown" if found is None else f"{found:g}{unit}", wanted.in_words(unit))


def _below(criterion: str, found: float | None, limit: float | None) -> Iterator[Failure]:
    if limit is not None and (found is None or found >= limit):
        yield Failure(criterion, "unknown" if found is None else f"{found:g}", f"below {limit:g}")


def _known_to_orthanc(criterion: str, found: str | None, wanted: Sequence[str]) -> Iterator[Failure]:
    if wanted and found is None:
        yield Failure(criterion, "only Orthanc's own metadata tell it", " or ".join(wanted), undecidable=True)
    elif wanted:
        yield from _listed(criterion, (found,) if found else (), wanted)


def _sent_from(found: str | None, wanted: Sequence[IPvAnyNetwork]) -> Iterator[Failure]:
    if not any(_lies_in(found or "", network) for network in wanted):
        yield from _known_to_orthanc("RemoteIP", found, [str(network) for network in wanted])


def _lies_in(address: str, network: IPvAnyNetwork) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:  # Orthanc does not know the address
        return False


def _copy(criterion: str, found: bool | None, wanted: bool | None) -> Iterator[Failure]:
    """Compare whether Orthanc made the series from another one; an archive that does not know has no such copies."""
    if found is None and wanted:
        yield Failure(criterion, "only Orthanc's own metadata tell it", _truth(wanted), undecidable=True)
    elif None not in (found, wanted) and found is not wanted:
        yield Failure(criterion, _truth(found), _truth(wanted))
