"""Listens to what is drawn on pictures."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import ImageDraw


def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gather every text that is drawn from now on."""
    drawn: list[str] = []
    for name in ("text", "multiline_text"):
        paint = getattr(ImageDraw.ImageDraw, name)

        def listen(self: object, place: object, text: str, *more: object, _paint: Any = paint, **keys: object) -> None:
            drawn.append(text)
            _paint(self, place, text, *more, **keys)

        monkeypatch.setattr(ImageDraw.ImageDraw, name, listen)
    return drawn
