"""Describe the phantom's chest: the ellipses of each structure at each height.

Coordinates are LPS millimetres of the reference chest: x to the patient's left, y to the back, z to the head, with the
origin in the middle. The numbers describe a slim adult (our own choice, judged on renders). No two sections overlap,
and every section that is removed lies inside the one that it is removed from, so areas add up. Heights lie on the
borders of the default slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import atan2, cos, exp, pi, radians, sin, sqrt

from orthanc_plugin.phantoms.sections import Ellipse, Line

FIELD_OF_VIEW_MM = (302.4, 355.2, 355.2)
"""(z, y, x) extent of the reference chest."""

BODY = Ellipse(0.0, 0.0, 160.0, 118.0)
SKIN = Ellipse(0.0, 0.0, 158.0, 116.0)
MUSCLE = Ellipse(0.0, 0.0, 147.0, 105.0)
CHEST = Ellipse(0.0, 0.0, 126.0, 86.0)

_LUNG_TOP, LUNG_BASE_MM = 118.8, -108.0
CARINA_MM, _BRONCHUS_END = 43.2, 5.4
_BRONCHUS_RADIUS, _WALL = 5.5, 2.0
_VERTEBRA, _DISC = 21.0, 5.5


@dataclass(frozen=True, slots=True)
class Section:
    """One structure at one height: its parts, less what is removed."""

    parts: tuple[Ellipse, ...] = ()
    without: tuple[Ellipse, ...] = ()

    def area(self) -> float:
        """Compute the exact area in mm2; parts are disjoint and what is removed lies inside them."""
        return sum(part.area() for part in self.parts) - sum(hole.area() for hole in self.without)


def airway(z: float) -> Section:
    """Draw the trachea above the carina and two main bronchi below, whose discs touch and lie under the trachea."""
    if z > CARINA_MM:
        up = z - CARINA_MM
        return Section((Ellipse(0.03 * up, 4.0 - 0.12 * up, 2 * _BRONCHUS_RADIUS, 8.5),))
    if z > _BRONCHUS_END:
        return Section((_bronchus(z, -1, _BRONCHUS_RADIUS), _bronchus(z, 1, _BRONCHUS_RADIUS)))
    return Section()


def lung(z: float, side: int) -> Section:
    """Draw one lung (`side` +1 left, -1 right) with dome, diaphragm and medial face, without the bronchus in it."""
    height = (z - LUNG_BASE_MM) / (_LUNG_TOP - LUNG_BASE_MM)
    if not 0.0 < height < 1.0:
        return Section()
    f = (1.0 - height**2.6) ** 0.55
    outline = Ellipse(side * (40.0 + 10.0 * f), 0.0, 68.0 * f, 74.0 * f, cut=_medial_face(z, side))
    return Section((outline,), (*_diaphragm(z, side), *_bronchus_in_lung(z, side)))


def bone(z: float) -> Section:
    """Draw spine, ribs and sternum."""
    arch, canal = Ellipse(0.0, 87.0, 13.0, 11.0), Ellipse(0.0, 87.0, 9.0, 7.5)
    spinous = Ellipse(0.0, 104.0, 3.5, 6.0)
    sternum = (Ellipse(0.0, -95.0, 19.0, 5.5),) if z > -40.0 else ()
    vertebra = (Ellipse(0.0, 61.0, 18.0, 15.0), arch, spinous) if z % (_VERTEBRA + _DISC) < _VERTEBRA else ()
    return Section((*vertebra, *sternum, *_ribs(z)), (canal,) if vertebra else ())


def heart(z: float) -> tuple[Ellipse, ...]:
    """Draw the heart in the mediastinum; it belongs to the body."""
    f2 = 1.0 - ((z + 48.0) / 60.0) ** 2
    return (Ellipse(16.0, -28.0, 54.0 * sqrt(f2), 42.0 * sqrt(f2), 0.3),) if f2 > 0.0 else ()


def vessels(z: float) -> tuple[Ellipse, ...]:
    """Draw the descending aorta and, above the heart, ascending aorta and vena cava; they belong to the body."""
    above = (Ellipse(4.0, -26.0, 15.0, 15.0), Ellipse(-17.0, -18.0, 8.0, 9.0)) if 0.0 < z < 75.0 else ()
    return (Ellipse(17.0, 38.0, 11.5, 11.5), *above) if z < 75.0 else ()


def liver_and_spleen(z: float) -> tuple[Ellipse, ...]:
    """Draw what bulges into the lungs from below; it belongs to the body."""
    return (*_diaphragm(z, -1), *_diaphragm(z, 1))


def table(z: float) -> tuple[Ellipse, Ellipse]:
    """Draw the couch below the back as a shell between two ellipses, the same at every z; it has no label."""
    outer = Ellipse(0.0, 60.0, 240.0, 90.0, cut=Line(pi / 2, 124.0))
    return outer, replace(outer, a=230.0, b=84.0)


def _medial_face(z: float, side: int) -> Line:
    """Find the plane that ends a lung toward the mediastinum; the heart turns and moves it."""
    at_heart = exp(-(((z + 50.0) / 40.0) ** 2))
    if side < 0:
        return Line(pi - 0.22 * at_heart, 21.0 + 11.0 * at_heart)
    return Line(0.35 * at_heart, 21.0 + 19.0 * at_heart)


def _diaphragm(z: float, side: int) -> tuple[Ellipse, ...]:
    """Draw the dome of the diaphragm, entirely within the lung's outline; the right one is higher."""
    height = (z - LUNG_BASE_MM) / (62.0 if side < 0 else 50.0)
    if not 0.0 <= height < 1.0:
        return ()
    f = sqrt(1.0 - height**2)
    return (Ellipse(side * 76.0, 4.0, 30.0 * f, 48.0 * f),)


def _bronchus(z: float, side: int, radius: float) -> Ellipse:
    return Ellipse(side * (_BRONCHUS_RADIUS + (CARINA_MM - z) * 0.8), 4.0, radius, radius)


def _bronchus_in_lung(z: float, side: int) -> tuple[Ellipse, ...]:
    """Draw the part of a bronchus with its wall beyond the medial face; the wall also closes its end."""
    if not _BRONCHUS_END - _WALL < z < CARINA_MM:
        return ()
    return (replace(_bronchus(z, side, _BRONCHUS_RADIUS + _WALL), cut=_medial_face(z, side)),)


def _ribs(z: float) -> Iterator[Ellipse]:
    """Draw the ribs of eleven pairs that this height cuts; each falls from back to front along the chest wall."""
    fall, first, last = 66.0, radians(20.0), radians(142.0)
    for number in range(-3, 10):
        share = (150.0 - 26.0 * number - z) / fall
        if 0.0 <= share <= 1.0:
            turn = first + share * (last - first)
            x, y = 136.0 * sin(turn), 95.0 * cos(turn)
            tangent = atan2(-95.0 * sin(turn), 136.0 * cos(turn))
            yield Ellipse(x, y, 12.0, 4.0, tangent)
            yield Ellipse(-x, y, 12.0, 4.0, -tangent)
