"""The phantom's chest: which ellipses each structure has at which height.

Coordinates are LPS millimetres of the reference chest: x to the patient's left, y to the back, z to the head, origin in
the middle. Numbers are of a slim adult (our own choice, judged on renders); they are chosen so that no two sections
overlap and every section that is taken away lies inside what it is taken from. Then areas add. Heights lie on the
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
    """One structure at one height: what it has, less what is taken away."""

    parts: tuple[Ellipse, ...] = ()
    without: tuple[Ellipse, ...] = ()

    def area(self) -> float:
        """Area in mm2; exact because parts are disjoint and what is taken away lies inside."""
        return sum(part.area() for part in self.parts) - sum(hole.area() for hole in self.without)


def airway(z: float) -> Section:
    """Trachea above the carina, two main bronchi below; the discs touch each other and lie under the trachea."""
    if z > CARINA_MM:
        up = z - CARINA_MM
        return Section((Ellipse(0.03 * up, 4.0 - 0.12 * up, 2 * _BRONCHUS_RADIUS, 8.5),))
    if z > _BRONCHUS_END:
        return Section((_bronchus(z, -1, _BRONCHUS_RADIUS), _bronchus(z, 1, _BRONCHUS_RADIUS)))
    return Section()


def lung(z: float, side: int) -> Section:
    """One lung, `side` +1 left and -1 right: dome above, diaphragm below, medial face, without the bronchus in it."""
    height = (z - LUNG_BASE_MM) / (_LUNG_TOP - LUNG_BASE_MM)
    if not 0.0 < height < 1.0:
        return Section()
    f = (1.0 - height**2.6) ** 0.55
    outline = Ellipse(side * (40.0 + 10.0 * f), 0.0, 68.0 * f, 74.0 * f, cut=_medial_face(z, side))
    return Section((outline,), (*_diaphragm(z, side), *_bronchus_in_lung(z, side)))


def bone(z: float) -> Section:
    """Spine, ribs and sternum."""
    arch, canal = Ellipse(0.0, 87.0, 13.0, 11.0), Ellipse(0.0, 87.0, 9.0, 7.5)
    spinous = Ellipse(0.0, 104.0, 3.5, 6.0)
    sternum = (Ellipse(0.0, -95.0, 19.0, 5.5),) if z > -40.0 else ()
    vertebra = (Ellipse(0.0, 61.0, 18.0, 15.0), arch, spinous) if z % (_VERTEBRA + _DISC) < _VERTEBRA else ()
    return Section((*vertebra, *sternum, *_ribs(z)), (canal,) if vertebra else ())


def heart(z: float) -> tuple[Ellipse, ...]:
    """Heart, shown in the mediastinum; belongs to the body."""
    f2 = 1.0 - ((z + 48.0) / 60.0) ** 2
    return (Ellipse(16.0, -28.0, 54.0 * sqrt(f2), 42.0 * sqrt(f2), 0.3),) if f2 > 0.0 else ()


def vessels(z: float) -> tuple[Ellipse, ...]:
    """Descending aorta, and above the heart the ascending aorta and the superior vena cava; belong to the body."""
    above = (Ellipse(4.0, -26.0, 15.0, 15.0), Ellipse(-17.0, -18.0, 8.0, 9.0)) if 0.0 < z < 75.0 else ()
    return (Ellipse(17.0, 38.0, 11.5, 11.5), *above) if z < 75.0 else ()


def liver_and_spleen(z: float) -> tuple[Ellipse, ...]:
    """What bulges into the lungs from below; belongs to the body."""
    return (*_diaphragm(z, -1), *_diaphragm(z, 1))


def table(z: float) -> tuple[Ellipse, Ellipse]:
    """Couch below the back: a shell between two ellipses, in the air; belongs to nothing. The same at every z."""
    outer = Ellipse(0.0, 60.0, 240.0, 90.0, cut=Line(pi / 2, 124.0))
    return outer, replace(outer, a=230.0, b=84.0)


def _medial_face(z: float, side: int) -> Line:
    """The plane that ends a lung toward the mediastinum: the heart turns and moves it."""
    at_heart = exp(-(((z + 50.0) / 40.0) ** 2))
    if side < 0:
        return Line(pi - 0.22 * at_heart, 21.0 + 11.0 * at_heart)
    return Line(0.35 * at_heart, 21.0 + 19.0 * at_heart)


def _diaphragm(z: float, side: int) -> tuple[Ellipse, ...]:
    """The dome of the diaphragm, wholly within the lung's outline; the right one is higher."""
    height = (z - LUNG_BASE_MM) / (62.0 if side < 0 else 50.0)
    if not 0.0 <= height < 1.0:
        return ()
    f = sqrt(1.0 - height**2)
    return (Ellipse(side * 76.0, 4.0, 30.0 * f, 48.0 * f),)


def _bronchus(z: float, side: int, radius: float) -> Ellipse:
    return Ellipse(side * (_BRONCHUS_RADIUS + (CARINA_MM - z) * 0.8), 4.0, radius, radius)


def _bronchus_in_lung(z: float, side: int) -> tuple[Ellipse, ...]:
    """Bronchus with its wall, as far as it lies beyond the medial face; the wall also closes its end."""
    if not _BRONCHUS_END - _WALL < z < CARINA_MM:
        return ()
    return (replace(_bronchus(z, side, _BRONCHUS_RADIUS + _WALL), cut=_medial_face(z, side)),)


def _ribs(z: float) -> Iterator[Ellipse]:
    """Eleven pairs: each falls from the back to the front along the chest wall, a slanting band cut by this height."""
    fall, first, last = 66.0, radians(20.0), radians(142.0)
    for number in range(-3, 10):
        share = (150.0 - 26.0 * number - z) / fall
        if 0.0 <= share <= 1.0:
            turn = first + share * (last - first)
            x, y = 136.0 * sin(turn), 95.0 * cos(turn)
            tangent = atan2(-95.0 * sin(turn), 136.0 * cos(turn))
            yield Ellipse(x, y, 12.0, 4.0, tangent)
            yield Ellipse(-x, y, 12.0, 4.0, -tangent)
