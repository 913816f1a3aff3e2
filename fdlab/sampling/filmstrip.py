"""A trace as one figure, a column a step, and as an animation over all steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fdlab.diffusion.guiders import GUIDERS
from fdlab.diffusion.stages import SDM, SNF, TDM
from fdlab.files import whole
from fdlab.sampling.canvas import GREY, INK, PALE, font, page, wrapped
from fdlab.sampling.trace import SDM_RGB, TDM_RGB, StepPicture

SIZE = 160
"""Pixels a side of a panel."""
GAP, MARGIN, LABELS, BAND = 6, 16, 150, 24
STAGES = {
    TDM: ("TDM alone", (156, 163, 175)),
    SNF: ("both, fused", (124, 58, 237)),
    SDM: ("SDM alone", SDM_RGB),
}
"""A stage's name and colour."""
Words = tuple[tuple[str, str], ...]
"""Names and meanings of the panels, from the top down."""
FRAME_MS, LAST_MS = 160, 2000


def words(guider: str, base: str) -> Words:
    """What the panels of a guider show whose subject's guidance starts from `base` (text or null)."""
    name, tdm, sdm = GUIDERS[guider].MAPS  # type: ignore[attr-defined]
    subject = "the subjects change" if base == "text" else "prompt and subjects change"
    return (
        *(
            (f"{who}'s {name}", f"{what.format(subject=subject)}; bright: the map's largest")
            for who, what in (("TDM", tdm), ("SDM", sdm))
        ),
        ("Mask", "who draws where"),
        ("Predicted picture", "what would remain if all noise went at this step"),
    )


def figure(
    frames: Sequence[StepPicture], shown: Sequence[int], panels: Words, caption: str, path: Path
) -> None:
    """Write the frames at the places `shown` as PNG, the SDM's share over all frames below them."""
    columns = [frames[place] for place in shown]
    left, step = MARGIN + LABELS, SIZE + GAP
    width = left + max(4, len(columns)) * step - GAP + MARGIN
    title = wrapped(caption, width - 2 * MARGIN, font(15))
    top = MARGIN + 22 * len(title) + 8
    rows = top + BAND + 40
    chart = rows + 4 * step + 26
    image, draw = page(width, chart + 90 + 30 + MARGIN)
    for number, text in enumerate(title):
        draw.text((MARGIN, MARGIN + 22 * number), text, INK, font(15))

    for stage, group in groupby(enumerate(columns), key=lambda item: item[1].stage):
        places = [place for place, _ in group]
        span = left + places[0] * step, left + places[-1] * step + SIZE
        _band(draw, stage, span, top, BAND)
    for place, frame in enumerate(columns):
        x = left + place * step
        draw.text((x, top + BAND + 5), f"step {frame.step}", INK, font(13, bold=True))
        draw.text((x, top + BAND + 22), f"t = {frame.t:.4g}", GREY, font(11))
        for row, panel in enumerate(_panels(frame)):
            _panel(image, draw, panel, (x, rows + row * step), frame.stage)
        draw.text((x, rows + 4 * step), f"SDM {frame.sdm_share:.0%}", INK, font(13))
    for row, (name, what) in enumerate(panels):
        y = rows + row * step
        draw.text((MARGIN, y + 4), name, INK, font(13, bold=True))
        for number, text in enumerate(wrapped(what, LABELS - 12, font(11))):
            draw.text((MARGIN, y + 24 + 15 * number), text, GREY, font(11))
        if name == "Mask":
            for number, (who, colour) in enumerate((("SDM", SDM_RGB), ("TDM", TDM_RGB))):
                box = MARGIN, y + 50 + 20 * number, MARGIN + 12, y + 62 + 20 * number
                draw.rectangle(box, colour, GREY)
                draw.text((MARGIN + 20, box[1] - 1), who, INK, font(11))
    draw.text((MARGIN, rows + 4 * step), "SDM's share", INK, font(13, bold=True))
    _chart(draw, frames, shown, (left, chart, width - MARGIN, chart + 90))
    with whole(path) as temporary:
        image.save(temporary, format="PNG")


def animation(frames: Sequence[StepPicture], panels: Words, path: Path) -> None:
    """Write all frames as an animated WebP that stops a while at the end."""
    order = (3, 0, 1, 2)
    step, top = SIZE + GAP, MARGIN + 26
    width, height = 2 * MARGIN + 4 * step - GAP, top + SIZE + 62 + MARGIN
    images = []
    for place, frame in enumerate(frames):
        image, draw = page(width, height)
        for column, row in enumerate(order):
            x = MARGIN + column * step
            draw.text((x, MARGIN), panels[row][0], INK, font(13, bold=True))
            _panel(image, draw, _panels(frame)[row], (x, top), frame.stage)
        said = f"step {frame.step}   {STAGES[frame.stage][0]}   SDM {frame.sdm_share:.0%}"
        draw.text((MARGIN, top + SIZE + 8), said, INK, font(13))
        _timeline(draw, frames, place, (MARGIN, top + SIZE + 34, width - MARGIN, top + SIZE + 50))
        images.append(image)
    with whole(path) as temporary:
        images[0].save(
            temporary,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=[FRAME_MS] * (len(images) - 1) + [LAST_MS],
            loop=0,
            quality=85,
        )


def _panels(frame: StepPicture) -> tuple[np.ndarray | None, ...]:
    """From the top of a figure down."""
    return frame.saliency_T_HW3, frame.saliency_S_HW3, frame.mask_HW3, frame.clean_HW3


def _panel(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    panel_HW3: np.ndarray | None,
    place: tuple[int, int],
    stage: str,
) -> None:
    """A picture, or an empty panel that says why."""
    x, y = place
    if panel_HW3 is not None:
        shown = Image.fromarray(panel_HW3)
        image.paste(shown if shown.size == (SIZE, SIZE) else shown.resize((SIZE, SIZE)), place)
        return
    draw.rectangle((x, y, x + SIZE - 1, y + SIZE - 1), PALE)
    draw.text((x + SIZE // 2, y + SIZE // 2), STAGES[stage][0], GREY, font(11), anchor="mm")


def _band(draw: ImageDraw.ImageDraw, stage: str, span: tuple[int, int], y: int, height: int) -> None:
    name, colour = STAGES[stage]
    draw.rectangle((span[0], y, span[1] - 1, y + height - 1), colour)
    face = font(12, bold=True)
    if face.getlength(name) > span[1] - span[0]:
        name = stage.upper()
    draw.text(((span[0] + span[1]) // 2, y + height // 2), name, "white", face, anchor="mm")


def _chart(
    draw: ImageDraw.ImageDraw,
    frames: Sequence[StepPicture],
    shown: Sequence[int],
    box: tuple[int, int, int, int],
) -> None:
    """The SDM's share at every step, stages behind it, a dot where a column stands."""
    left, top, right, bottom = box
    width = (right - left) / len(frames)
    for stage, group in groupby(enumerate(frames), key=lambda item: item[1].stage):
        places = [place for place, _ in group]
        colour = _pale(STAGES[stage][1], 0.15)
        draw.rectangle((left + places[0] * width, top, left + (places[-1] + 1) * width - 1, bottom), colour)
    points = [
        (left + (place + 0.5) * width, bottom - frame.sdm_share * (bottom - top))
        for place, frame in enumerate(frames)
    ]
    draw.line(points, INK, 2)
    for place in shown:
        x, y = points[place]
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), INK)
    draw.text((left - 8, top), "100 %", GREY, font(11), anchor="rm")
    draw.text((left - 8, bottom), "0 %", GREY, font(11), anchor="rm")
    draw.text((left, bottom + 8), f"all {len(frames)} steps", GREY, font(11))


def _timeline(
    draw: ImageDraw.ImageDraw, frames: Sequence[StepPicture], now: int, box: tuple[int, int, int, int]
) -> None:
    """All steps as a bar in their stages' colours, those to come pale."""
    left, top, right, bottom = box
    width = (right - left) / len(frames)
    for place, frame in enumerate(frames):
        colour = STAGES[frame.stage][1] if place <= now else _pale(STAGES[frame.stage][1], 0.25)
        draw.rectangle((left + place * width, top, left + (place + 1) * width - 1, bottom), colour)


def _pale(colour: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    red, green, blue = (round((1 - strength) * 255 + strength * part) for part in colour)
    return red, green, blue
