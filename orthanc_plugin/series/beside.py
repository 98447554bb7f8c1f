"""What lies in a series beside its slices: set aside and counted, or refused where a slice may be missing for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from orthanc_plugin.domain.instances import Beside
from orthanc_plugin.errors import InputError, Refusal
from orthanc_plugin.series.geometry import SAME_POSITION_MM, SlicePlane, Stack, plane_place

PARALLEL_COSINE = 0.99
"""A picture whose plane is turned further against the slices shows no slice of them."""


@dataclass(slots=True, eq=False)
class Aside:
    """Headers of instances that are no slices themselves.

    beside: with what each is, in the order of arrival.
    multi_frame: instances whose frames are the slices.
    """

    beside: list[tuple[Beside, Dataset]] = field(default_factory=list)
    multi_frame: list[Dataset] = field(default_factory=list)

    @property
    def headers(self) -> list[Dataset]:
        """Give all headers."""
        return [*self.multi_frame, *(header for _, header in self.beside)]

    def count(self, kind: Beside) -> int:
        """Count the instances of one kind; the same file may lie in a folder twice."""
        return len({str(header.SOPInstanceUID) for one, header in self.beside if one is kind})

    def notes(self) -> Iterator[str]:
        """Say what was left out, localizers aside: they are counted with those that only their planes tell."""
        for kind in (Beside.PICTURE, Beside.OTHER):
            if count := self.count(kind):
                yield f"{count} {kind} left out"

    def check_ends(self, stack: Stack, planes: Sequence[SlicePlane]) -> None:
        """Refuse a series with a picture where its first or last slice may have been.

        Between the slices a missing one leaves a gap, which refuses the series by itself.

        Raises
        ------
        InputError
            NOT_HU.
        """
        heights = np.array([plane.position for plane in planes]) @ stack.normal
        low, high = heights.min() - SAME_POSITION_MM, heights.max() + SAME_POSITION_MM
        for kind, header in self.beside:
            place = plane_place(header) if kind is Beside.PICTURE else None
            if place is None or abs(place[1] @ stack.normal) < PARALLEL_COSINE:
                continue
            if not low <= place[0] @ stack.normal <= high:
                message = "a picture without CT values lies before the first or after the last slice, as a slice would"
                raise InputError(Refusal.NOT_HU, f"{message}; send the CT reconstruction")
