"""Pieces of the page as HTML: what is happening, faces found, the figure of steps. HW3 is uint8 RGB."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from fdlab.demo.drawing import Drawn, Step
from fdlab.diffusion.settings import SamplerSettings
from fdlab.people.picture import png_bytes
from fdlab.sampling.filmstrip import STAGES, words
from fdlab.sampling.trace import SDM_RGB, TDM_RGB, StepPicture

PANELS = ("saliency_T_HW3", "saliency_S_HW3", "mask_HW3", "clean_HW3")
"""Fields of StepPicture, in the order in which `words` names them."""


def idle() -> str:
    """Before anything was asked for."""
    return note("Draw makes a picture of what is filled in.")


def waiting() -> str:
    """Before the first step."""
    return f"<progress></progress>{note('finding faces; waiting where another picture is being drawn')}"


def progress(step: Step) -> str:
    """How far the drawing is."""
    bar = f'<progress max="{step.total}" value="{step.done}"></progress>'
    return bar + note(f"{step.done} of {step.total} steps")


def refusal(line: str) -> str:
    """The one line of a UserError."""
    return f'<p role="alert">{escape(line)}</p>'


def finished(drawn: Drawn) -> str:
    """How it ended."""
    said = f"drawn in {drawn.seconds:.1f} s"
    if drawn.stopped_at is not None:
        at = drawn.stopped_at
        said = f"stopped after {at.done} of {at.total} steps; this is what was predicted there"
    if drawn.unseen:
        said += f"; the prompt is too long, left out: {escape(drawn.unseen)}"
    return note(said)


def note(text: str) -> str:
    """A line in small grey letters."""
    return f'<span class="note">{text}</span>'


def faces(cut: Sequence[Image.Image], guider: str) -> str:
    """What is left of the photos: the squares that the SDM is given."""
    if not cut:
        return note(f"guider {escape(guider)} draws no given person: photos and markers were left out")
    small = [image.convert("RGB").resize((96, 96), Image.Resampling.LANCZOS) for image in cut]
    shown = "".join(_img(np.asarray(image), f"face {i}", "smooth") for i, image in enumerate(small, 1))
    return f'<div class="faces">{note("cut out of the photos for the SDM:")}{shown}</div>'


def figure(steps: Sequence[StepPicture], sampler: SamplerSettings) -> str:
    """A column a step: both saliencies, the mask, and the picture predicted."""
    if not steps:
        return note(f"guider {escape(sampler.guider)} does not decide place by place: there are no masks")
    head = "".join(f"<th>step {step.step}{_stage(step)}</th>" for step in steps)
    names = words(sampler.guider, str(sampler.options.get("base", "text")))
    rows = [
        f"<tr><th>{name}<small>{what}</small></th>{_cells(steps, name, key)}</tr>"
        for (name, what), key in zip(names, PANELS, strict=True)
    ]
    keys = " ".join(
        f'<i style="background: rgb{colour}"></i> the {name} draws'
        for name, colour in (("SDM", SDM_RGB), ("TDM", TDM_RGB))
    )
    return (
        f'<div class="scroll"><table class="steps"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        + note(f"{keys}; a percentage is the share of places that the SDM draws")
    )


def _stage(step: StepPicture) -> str:
    name, colour = STAGES[step.stage]
    said = name if step.mask_HW3 is None else f"SDM {step.sdm_share:.0%}"
    return f'<small style="background: rgb{colour}">{said}</small>'


def _cells(steps: Sequence[StepPicture], name: str, key: str) -> str:
    how = "smooth" if key == "clean_HW3" else "cells"
    shown = [(step.step, getattr(step, key)) for step in steps]
    return "".join(
        "<td></td>" if image is None else f"<td>{_img(image, f'{name}, step {number}', how)}</td>"
        for number, image in shown
    )


def _img(image_HW3: np.ndarray, what: str, how: str) -> str:
    data = b64encode(png_bytes(np.ascontiguousarray(image_HW3))).decode()
    return f'<img class="{how}" alt="{escape(what)}" src="data:image/png;base64,{data}">'
