"""Guards: what a scan must show of the body before organ models run."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor

from orthanc_plugin.domain.body import BodyLocation
from orthanc_plugin.domain.plan import Guard, Location
from orthanc_plugin.errors import InputError, Refusal


def check_location(wanted: Location, found: BodyLocation) -> None:
    """Refuse a series that does not show what its rule asks for.

    A scan whose place in the body is not known passes no guard.

    Raises
    ------
    InputError
        If a guard refuses the series: NOT_COVERED, REVERSED or INVALID_SPACING, with what was found and required.
    """
    if refusal := next(_refusals(wanted, found), None):
        raise refusal


def _refusals(wanted: Location, found: BodyLocation) -> Iterator[InputError]:
    for region, part in wanted.min_coverage:
        covered = found.coverage.get(region)
        if found.reason:
            said = f"{region}: no valid region ({found.reason}), {part:.2f} wanted"
            yield InputError(Refusal.NOT_COVERED, said)
        elif covered is None:
            yield InputError(Refusal.NOT_COVERED, f"{region}: the model gives no coverage of it, {part:.2f} wanted")
        elif covered < part:
            yield InputError(Refusal.NOT_COVERED, f"{region} {_floor(covered)} covered, {part:.2f} wanted")
    if wanted.crop is not None and not found.reason and not found.regions.get(wanted.crop):
        yield InputError(Refusal.NOT_COVERED, f"{wanted.crop} is not in the scan, and CropToRegion names it")
    if wanted.on_reversed is Guard.REFUSE and (found.reason or found.reversed):
        said = "scores fall toward the head: the scan may be stored upside down"
        yield InputError(Refusal.REVERSED, _unknown(found) or said)
    if wanted.on_invalid_spacing is Guard.REFUSE and (found.reason or not found.valid_spacing):
        said = f"scores change {found.slope_ratio or 0:.2f} times as fast as expected: slice spacing is doubtful"
        yield InputError(Refusal.INVALID_SPACING, _unknown(found) or said)


def _unknown(found: BodyLocation) -> str:
    return f"no valid region: {found.reason}" if found.reason else ""


def _floor(part: float) -> str:
    """Format two decimals, never rounded up: 0.799 must not read as the required 0.80."""
    return f"{floor(round(part * 100, 6)) / 100:.2f}"
