"""A contact sheet: one prompt after the other, its references first, then its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fdlab.data.pictures import read_photo
from fdlab.files import whole
from fdlab.sampling.canvas import GREY, INK, font, page, shortened, wrapped

CELL, GAP, MARGIN, CAPTION = 192, 8, 16, 18
COLUMNS = 8
"""Most pictures side by side; the others go below."""
MOST = 100
"""Prompts on a sheet: more would make a picture that no viewer opens."""


@dataclass(frozen=True)
class Line:
    """A prompt with the (path, caption) of its references and pictures."""

    prompt: str
    references: list[tuple[Path, str]]
    pictures: list[tuple[Path, str]]

    @property
    def rows(self) -> int:
        """Rows of pictures, beside the references."""
        return -(-len(self.pictures) // self.beside)

    @property
    def beside(self) -> int:
        """Pictures in a row."""
        return max(1, COLUMNS - len(self.references))


def contact_sheet(lines: Sequence[Line], path: Path) -> None:
    """Write the sheet as PNG, whole or not at all; at most the first `MOST` prompts."""
    shown = lines[:MOST]
    heading, small = font(14), font(11)
    widest = max(len(line.references) + min(len(line.pictures), line.beside) for line in shown)
    # Wide enough for a prompt of some length, however few its pictures.
    width = 2 * MARGIN + max(3, widest) * (CELL + GAP) - GAP
    titles = [wrapped(line.prompt, width - 2 * MARGIN, heading) for line in shown]
    heights = [
        20 * len(title) + line.rows * (CELL + CAPTION) + 14 for line, title in zip(shown, titles, strict=True)
    ]
    sheet, draw = page(width, 2 * MARGIN + sum(heights) + (20 if len(lines) > MOST else 0) - 14)
    top = MARGIN
    for line, title, height in zip(shown, titles, heights, strict=True):
        for number, text in enumerate(title):
            draw.text((MARGIN, top + 20 * number), text, INK, heading)
        start = top + 20 * len(title)
        num = len(line.references)
        cells = [(column, 0, *item) for column, item in enumerate(line.references)]
        cells += [
            (num + index % line.beside, index // line.beside, *item)
            for index, item in enumerate(line.pictures)
        ]
        for column, row, picture, caption in cells:
            x, y = MARGIN + column * (CELL + GAP), start + row * (CELL + CAPTION)
            image = _fitted(picture)
            sheet.paste(image, (x + (CELL - image.width) // 2, y + (CELL - image.height) // 2))
            draw.text((x, y + CELL + 2), shortened(caption, CELL, small), GREY, small)
        if num:
            x = MARGIN + num * (CELL + GAP) - GAP // 2 - 1
            draw.line((x, start, x, start + CELL), GREY, 1)
        top += height
    if len(lines) > MOST:
        draw.text((MARGIN, top), f"the first {MOST} of {len(lines)} prompts", GREY, small)
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")


def _fitted(path: Path) -> Image.Image:
    """The picture as large as a cell allows, in its own proportions."""
    image = Image.fromarray(read_photo(path, "picture"))
    scale = CELL / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
