"""Plane sections with exact areas, which are stacked to form the phantom's bodies.

A body is a stack of horizontal sections; its volume is the integral of their areas (Cavalieri). Every section is an
ellipse, whole or cut by one straight line, so each area has a formula and the truth needs no counting of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import acos, cos, hypot, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Line:
    """The half plane `x cos(angle) + y sin(angle) > offset`; angle in radians, offset in mm."""

    angle: float
    offset: float


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in the (x, y) plane; lengths in mm, `angle` turns its first axis from x toward y (radians).

    If `cut` is given, only the part in that half plane belongs to the section.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0
    cut: Line | None = None

    def area(self) -> float:
        """Compute the area in mm2."""
        if self.cut is None:
            return pi * self.a * self.b
        return self.a * self.b * _disc_segment(self._cut_distance(self.cut))

    def contains(self, x: Plane, y: Plane) -> Mask:
        """Mark the points that lie inside; `x` and `y` broadcast against each other."""
        c, s = cos(self.angle), sin(self.angle)
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        inside = ((dx * c + dy * s) / self.a) ** 2 + ((dy * c - dx * s) / self.b) ** 2 < 1.0
        if self.cut is None:
            return np.asarray(inside)
        return np.asarray(inside & (x * cos(self.cut.angle) + y * sin(self.cut.angle) > self.cut.offset))

    def _cut_distance(self, cut: Line) -> float:
        """Compute the distance of the cutting line from the centre, with the ellipse scaled to the unit disc."""
        turned = cut.angle - self.angle
        scale = hypot(self.a * cos(turned), self.b * sin(turned))
        return (cut.offset - self.x * cos(cut.angle) - self.y * sin(cut.angle)) / scale


def _disc_segment(distance: float) -> float:
    """Compute the area of the unit disc beyond a line at that signed distance from its centre."""
    u = min(1.0, max(-1.0, distance))
    return acos(u) - u * sqrt(1.0 - u * u)
