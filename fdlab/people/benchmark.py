"""The embedded benchmark: held-out people, prompts by category, references, and true renders of every prompt.

Identities start at `dataset.HELD_OUT`, which no dataset reaches. Faces are framed so that a recogniser can
judge them: about half the picture's height, yaw mostly within 20 degrees.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import files
from fdlab.errors import unknown
from fdlab.people import appearance, picture, scenes, styles
from fdlab.people.appearance import Appearance
from fdlab.people.captions import article
from fdlab.people.dataset import HELD_OUT, VERSION, ignore_interrupts, png_bytes
from fdlab.people.identity import identity
from fdlab.randomness import numpy_rng

SEED = 7
SIZE = 128
SUBJECTS = 40
SCALE = (31.5, 36.0)
"""Pixels a decimetre: a face about half the picture's height."""


@dataclass(frozen=True)
class Prompt:
    """What one prompt asks for; None is left to chance or plainness."""

    category: str
    scene: str
    hour: str = "day"
    style: str = "photograph"
    color: str | None = None
    garment: str | None = None
    hat: str | None = None
    scarf: str | None = None
    expression: str | None = None

    @property
    def text(self) -> str:
        """The prompt with `{noun}` and marker."""
        worn = [article(f"{self.color} {self.garment}")] if self.color else []
        worn += [article(f"{self.hat} hat")] if self.hat else []
        worn += [article(f"{self.scarf} scarf")] if self.scarf else []
        text = styles.STYLES[self.style][1][-1] + "a {noun} <|image|>"
        if worn:
            text += " in " + " and ".join(worn)
        if self.expression:
            text += "" if self.expression in ("smiling", "laughing") else " looking"
            text += f" {self.expression}"
        return text + " " + scenes.SCENES[self.scene][1] + (" at sunset" if self.hour == "sunset" else "")

    @property
    def truth(self) -> dict[str, str]:
        """What a picture must show, by attribute."""
        asked = {
            "scene": self.scene,
            "style": self.style,
            "clothes_color": self.color,
            "garment": self.garment,
            "hat": self.hat,
            "scarf": self.scarf,
            "expression": self.expression,
        }
        return {name: value for name, value in asked.items() if value is not None}


PROMPTS = (
    Prompt("context", "beach", color="red", garment="t-shirt"),
    Prompt("clothes", "studio", color="yellow", garment="sweater"),
    Prompt("style", "garden", style="pencil drawing"),
    Prompt("expression", "library", color="blue", garment="shirt", expression="smiling"),
    Prompt("context", "snow", color="green", garment="jacket"),
    Prompt("clothes", "city", color="purple", garment="t-shirt", hat="black"),
    Prompt("style", "mountains", style="watercolor"),
    Prompt("expression", "kitchen", color="white", garment="t-shirt", expression="surprised"),
    Prompt("context", "night", color="orange", garment="sweater"),
    Prompt("clothes", "forest", color="pink", garment="shirt", scarf="blue"),
    Prompt("style", "city", style="black-and-white photograph"),
    Prompt("expression", "studio", color="grey", garment="sweater", expression="laughing"),
    Prompt("context", "desert", hour="sunset", color="white", garment="shirt"),
    Prompt("clothes", "library", color="green", garment="jacket"),
    Prompt("style", "beach", style="pop art"),
    Prompt("expression", "garden", color="black", garment="t-shirt", expression="sad"),
)
NAMES = ("people_single",)


def _look(rng: np.random.Generator, prompt: Prompt | None) -> Appearance:
    look = replace(appearance.draw(rng, 1.0), hat=None, scarf=None, expression="neutral", pattern="plain")
    if prompt is None:
        return look
    return replace(
        look,
        hat=prompt.hat,
        scarf=prompt.scarf,
        expression=prompt.expression or "neutral",
        garment=prompt.garment or look.garment,
        color=prompt.color or look.color,
    )


def spec(subject: int, purpose: str, prompt: int | None = None, index: int = 0) -> picture.Spec:
    """The spec of a reference, a held-out picture or a true render."""
    rng = numpy_rng(SEED, f"benchmark-{purpose}", subject, -1 if prompt is None else prompt, index)
    asked = None if prompt is None else PROMPTS[prompt]
    scale, eyes, right = rng.uniform(*SCALE), rng.uniform(0.39, 0.45), rng.normal(0, 0.15)
    framing = picture.Framing(float(scale), float(eyes), float(right))
    scene, hour, style = (asked.scene, asked.hour, asked.style) if asked else ("studio", "day", "photograph")
    people = ((HELD_OUT + subject, _look(rng, asked)),)
    return picture.Spec(people, scene, hour, style, framing, int(rng.integers(2**31)))


def manifest(name: str) -> dict[str, Any]:
    """benchmark.json of an embedded benchmark; UserError with the nearest match for another name."""
    if name not in NAMES:
        raise unknown("embedded benchmark", name, NAMES)
    subjects = [
        {
            "id": f"s{k:02d}",
            "noun": identity(HELD_OUT + k).noun,
            "identity": HELD_OUT + k,
            "references": [f"references/s{k:02d}.png"],
            "heldout": [f"heldout/s{k:02d}.png"],
        }
        for k in range(SUBJECTS)
    ]
    prompts = [
        {"id": f"p{k:02d}", "category": p.category, "text": p.text, "truth": p.truth}
        for k, p in enumerate(PROMPTS)
    ]
    return {
        "name": name,
        "version": f"1.{VERSION}",
        "size": SIZE,
        "seed": SEED,
        "images_per_prompt": 1,
        "subjects": subjects,
        "prompts": prompts,
        "real": "real/{subject}-{prompt}-{index}.png",
    }


def _write_subject(job: tuple[Path, int]) -> int:
    root, k = job
    reference = root / "references" / f"s{k:02d}.png"
    if reference.exists():
        return 1 + len(PROMPTS)
    for p in range(len(PROMPTS)):
        real = picture.render(spec(k, "real", p), SIZE)
        files.write_bytes(root / "real" / f"s{k:02d}-p{p:02d}-0.png", png_bytes(real.image_HW3))
    held = picture.render(spec(k, "heldout"), SIZE)
    files.write_bytes(root / "heldout" / f"s{k:02d}.png", png_bytes(held.image_HW3))
    made = picture.render(spec(k, "reference"), SIZE)
    mask = (made.segments_HW > 0).astype(np.uint8) * 255
    files.write_bytes(root / "masks" / f"s{k:02d}.png", png_bytes(mask))
    files.write_bytes(reference, png_bytes(made.image_HW3))
    return 1 + len(PROMPTS)


def _counted(done: Iterator[int]) -> Iterator[int]:
    for n in done:
        yield from range(n)


def render(root: Path | str, name: str, workers: int = 0) -> None:
    """Render an embedded benchmark into `root`, going on where a call stopped; benchmark.json comes last."""
    from fdlab.progress import track

    root, wanted = Path(root), manifest(name)
    if (root / "benchmark.json").exists():
        return
    jobs = [(root, k) for k in range(SUBJECTS)]
    total = SUBJECTS * (1 + len(PROMPTS))
    workers = workers or os.cpu_count() or 1
    if workers > 1:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), ignore_interrupts) as pool:
            for _ in track(_counted(pool.imap_unordered(_write_subject, jobs)), f"rendering {name}", total):
                pass
    else:
        for _ in track(_counted(map(_write_subject, jobs)), f"rendering {name}", total):
            pass
    files.write_json(root / "benchmark.json", wanted)
