"""Lay a summary of one result out on one A4 page as PDF.

Nothing that identifies the patient is written, and no UID, so that de-identification need not look into the document.
The same content gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

import reportlab
from PIL import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import registerFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepInFrame, Paragraph, Spacer, Table, TableStyle
from reportlab.platypus import Image as PageImage

_FONT, _BOLD = "Vera", "VeraBd"
_FONTS = Path(reportlab.__file__).parent / "fonts"
_MARGIN, _FOOT = 14 * mm, 22 * mm
_WIDTH, _HEIGHT = A4[0] - 2 * _MARGIN, A4[1] - _MARGIN - _FOOT
_RED, _GREY, _LINE = HexColor("#b00000"), HexColor("#555555"), HexColor("#bbbbbb")
_LARGEST_PICTURE = 110 * mm
_COLUMNS, _ROWS_OF_ONE, _SWATCH = 3, 12, 4 * mm
_TEXT = ParagraphStyle("text", fontName=_FONT, fontSize=7.5, leading=9.5)
_CELL = ParagraphStyle("cell", _TEXT, fontSize=7, leading=8.5)
_SMALL = ParagraphStyle("small", _TEXT, fontSize=6.5, leading=8, textColor=_GREY)
_TITLE = ParagraphStyle("title", _TEXT, fontName=_BOLD, fontSize=13, leading=16)
_HEADING = ParagraphStyle("heading", _TEXT, fontName=_BOLD, fontSize=9, leading=13, spaceBefore=4)
_ALERT = ParagraphStyle("alert", _TEXT, fontName=_BOLD, fontSize=9.5, leading=12, textColor=_RED)


@dataclass(frozen=True, slots=True)
class Row:
    """One structure: its colour (sRGB), name, volume, and what its quality checks gave."""

    colour: tuple[int, int, int]
    label: str
    volume: str
    checks: str


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What a summary says, in the order of the page.

    warning: what nobody may overlook; it also stands at the foot of the page.
    picture: planes with outlines, RGB.
    failed: sentences on checks that failed, or why there are no checks.
    statements: who made the result, what it is meant for, and what it cannot do.
    facts: name and value of what a reader needs to repeat the run.
    """

    title: str
    warning: str
    source: str
    picture: Image.Image
    rows: tuple[Row, ...]
    failed: tuple[str, ...]
    statements: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def to_pdf(page: Page) -> bytes:
    """Draw the page; what does not fit is drawn smaller."""
    _register_fonts()
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True)
    canvas.setTitle(page.title)
    canvas.setSubject(page.warning)
    frame = KeepInFrame(_WIDTH, _HEIGHT, _story(page), mode="shrink")
    _, height = frame.wrapOn(canvas, _WIDTH, _HEIGHT)
    frame.drawOn(canvas, _MARGIN, A4[1] - _MARGIN - height)
    foot = Paragraph(escape(page.warning), _ALERT)
    _, height = foot.wrapOn(canvas, _WIDTH, _FOOT)
    foot.drawOn(canvas, _MARGIN, _FOOT - _MARGIN / 2 - height)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


@cache
def _register_fonts() -> None:
    """Make the fonts known, once in a process: they are embedded, because readers lack them."""
    for name in (_FONT, _BOLD):
        registerFont(TTFont(name, str(_FONTS / f"{name}.ttf")))


def _story(page: Page) -> list[Flowable]:
    statements = [Paragraph(escape(text), _TEXT) for text in page.statements]
    facts = "; ".join(f"{name} {value}" for name, value in page.facts if value)
    return [
        Paragraph(escape(page.title), _TITLE),
        Paragraph(escape(page.warning), _ALERT),
        Paragraph(escape(page.source), _SMALL),
        Spacer(1, 2 * mm),
        _picture(page.picture),
        Paragraph("Structures", _HEADING),
        _table(page.rows),
        Paragraph("Quality checks", _HEADING),
        *(Paragraph(escape(text), _TEXT) for text in page.failed),
        Paragraph("What this is", _HEADING),
        *statements,
        Paragraph("Provenance", _HEADING),
        Paragraph(escape(facts), _SMALL),
    ]


def _picture(picture: Image.Image) -> Flowable:
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    scale = min(_WIDTH / picture.width, _LARGEST_PICTURE / picture.height)
    return PageImage(file, picture.width * scale, picture.height * scale)


def _table(rows: Sequence[Row]) -> Table:
    """Put many structures into several columns, so that a hundred organs fit."""
    columns = 1 if len(rows) <= _ROWS_OF_ONE else _COLUMNS
    lines = -(-len(rows) // columns)
    parts = [rows[at : at + lines] for at in range(0, len(rows), lines)]
    cells = [[cell for part in parts for cell in _cells(part, line)] for line in range(lines)]
    across = _WIDTH / len(parts) - _SWATCH
    table = Table(cells, colWidths=[_SWATCH, across * 0.5, across * 0.2, across * 0.3] * len(parts))
    style = TableStyle([("GRID", (0, 0), (-1, -1), 0.25, _LINE), ("VALIGN", (0, 0), (-1, -1), "MIDDLE")])
    for side in ("TOP", "BOTTOM", "LEFT", "RIGHT"):
        style.add(f"{side}PADDING", (0, 0), (-1, -1), 1.5)
    for column, part in enumerate(parts):
        for line, row in enumerate(part):
            style.add("BACKGROUND", (4 * column, line), (4 * column, line), _colour(row))
    table.setStyle(style)
    return table


def _cells(part: Sequence[Row], line: int) -> list[Paragraph | str]:
    if line >= len(part):
        return [""] * 4
    row = part[line]
    return ["", *(Paragraph(escape(text), _CELL) for text in (row.label, row.volume, row.checks))]


def _colour(row: Row) -> Color:
    return Color(*(value / 255 for value in row.colour))
