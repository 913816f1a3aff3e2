"""Photos to start with: rendered people, whom the models that ship can draw, and prompts that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fdlab import files
from fdlab.people import benchmark, picture
from fdlab.people.identity import HELD_OUT, identity
from fdlab.people.picture import png_bytes

SIZE = 256
SUBJECTS = (1, 5, 3)
"""Of the benchmark's held-out people, whom no training has seen."""
PROMPTS = (
    ((0,), "a {0} <|image|> in a red t-shirt on a beach"),
    ((1,), "a {0} <|image|> in a green jacket in the snow"),
    ((2,), "a watercolor painting of a {0} <|image|> in the mountains"),
    ((0, 1), "a {0} <|image|> and a {1} <|image|> in a flower garden"),
)
"""Indices into SUBJECTS, and a prompt with their nouns."""


@dataclass(frozen=True)
class Example:
    """A click's worth: photos in the order of the prompt's markers."""

    photos: tuple[Path, ...]
    prompt: str


def render_examples(folder: Path) -> list[Example]:
    """Render the people into `folder`, and pair them with prompts. Takes a second."""
    nouns = [identity(HELD_OUT + subject).noun for subject in SUBJECTS]
    paths = [folder / f"{noun}_{subject}.png" for noun, subject in zip(nouns, SUBJECTS, strict=True)]
    for path, subject in zip(paths, SUBJECTS, strict=True):
        made = picture.render(benchmark.spec(subject, "reference"), SIZE)
        files.write_bytes(path, png_bytes(made.image_HW3))
    return [
        Example(tuple(paths[i] for i in who), prompt.format(*(nouns[i] for i in who)))
        for who, prompt in PROMPTS
    ]
