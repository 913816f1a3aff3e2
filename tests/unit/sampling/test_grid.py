"""The contact sheet, and text that has to fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.sampling import grid
from fdlab.sampling.canvas import font, shortened, wrapped
from fdlab.sampling.grid import CELL, Line, contact_sheet

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.fixture
def paths(tmp_path: Path) -> dict[tuple[int, int, int], Path]:
    made = {}
    for name, colour, size in (("r", RED, (30, 60)), ("g", GREEN, (64, 64)), ("b", BLUE, (400, 400))):
        made[colour] = tmp_path / f"{name}.png"
        Image.new("RGB", size, colour).save(made[colour])
    return made


def places(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a colour."""
    ys, xs = np.nonzero((sheet == colour).all(-1))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_references_come_first_and_every_picture_keeps_its_shape(
    paths: dict[tuple[int, int, int], Path], tmp_path: Path
) -> None:
    lines = [
        Line("a woman <|image|>", [(paths[RED], "photo")], [(paths[GREEN], "seed 0")]),
        Line("nobody", [], [(paths[BLUE], "seed 1")]),
    ]
    contact_sheet(lines, tmp_path / "grid.png")
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    red, green, blue = (places(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert (red[2] - red[0], red[3] - red[1]) == (CELL // 2, CELL)
    for box in (green, blue):
        assert (box[2] - box[0], box[3] - box[1]) == (CELL, CELL)
    assert red[2] < green[0] and red[1] == green[1] and green[3] < blue[1]


def test_many_pictures_go_below_and_many_prompts_are_cut(
    paths: dict[tuple[int, int, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact_sheet([Line("x", [(paths[RED], "")], [(paths[GREEN], "")] * 15)], tmp_path / "a.png")
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert (sheet == GREEN).all(-1).sum() == 15 * CELL**2
    monkeypatch.setattr(grid, "MOST", 2)
    contact_sheet([Line("x", [], [(paths[GREEN], "")])] * 5, tmp_path / "b.png")
    assert (np.asarray(Image.open(tmp_path / "b.png")) == GREEN).all(-1).sum() == 2 * CELL**2


def test_text_fits() -> None:
    face = font(12)
    text = "a woman with a very long description in the snow " * 9
    lines = wrapped(text, 200, face, most=3)
    assert len(lines) == 3 and all(face.getlength(line) <= 200 for line in lines) and lines[-1].endswith("…")
    assert " ".join(lines[:2]) == text[: len(" ".join(lines[:2]))]
    assert wrapped("short", 200, face) == ["short"] and wrapped("", 200, face) == []
    assert face.getlength(shortened("w" * 99, 50, face)) <= 50
