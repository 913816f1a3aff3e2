"""A sheet of what ships draws, nothing chosen: the benchmark's first people with its first prompts, by SNF.

    python experiments/nano/sheet.py OUT.jpg [--people 16] [--prompts 6] [--steps 12]
A column a person, the reference on top; a row a prompt; one picture each, by its number as the seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from evaluate_people import references
from PIL import Image

from fdlab import FaceDiffuserPipeline
from fdlab.people import benchmark
from fdlab.people.identity import HELD_OUT, identity

OPTIONS = {"base": "null", "smoothing": "gaussian"}
"""As in sampler=snf_prompt."""


def main() -> None:
    """Draw row by row and join."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    people = range(given.people)
    images, masks = references(people)
    shown = [np.dstack([image, mask * np.uint8(255)]) for image, mask in zip(images, masks, strict=True)]
    pipe = FaceDiffuserPipeline.shipped()
    rows = [np.concatenate(list(images), axis=1)]
    for number, prompt in enumerate(benchmark.PROMPTS[: given.prompts]):
        drawn = pipe(
            [prompt.text.format(noun=identity(HELD_OUT + k).noun) for k in people],
            [[reference] for reference in shown],
            seeds=[number * given.people + k for k in people],
            num_inference_steps=given.steps,
            alpha=0.2,
            beta=0.6,
            guider_options=OPTIONS,
        ).images
        rows.append(np.concatenate([np.asarray(picture) for picture in drawn], axis=1))
    Image.fromarray(np.concatenate(rows)).save(given.out, quality=given.quality)


if __name__ == "__main__":
    main()
