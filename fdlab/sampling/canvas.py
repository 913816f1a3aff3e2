"""Text and pictures on a white page, without a plotting library's layout: pixels stay pixels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

INK, GREY, PALE = (31, 41, 55), (107, 114, 128), (243, 244, 246)


@lru_cache(maxsize=16)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and Arabic letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def page(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white picture, and what draws on it."""
    image = Image.new("RGB", (width, height), "white")
    return image, ImageDraw.Draw(image)


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont, most: int = 3) -> list[str]:
    """Lines no wider than `width` pixels, at most `most`; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    words = text.split()
    while words:
        count = len(words)
        while count > 1 and face.getlength(" ".join(words[:count])) > width:
            count -= 1
        if len(lines) == most - 1:
            return [*lines, shortened(" ".join(words), width, face)]
        lines.append(shortened(" ".join(words[:count]), width, face))
        words = words[count:]
    return lines


def shortened(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """Text no wider than `width` pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
