from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fdlab.data import layout
from fdlab.data.sample import PersonSample, ShownSubject
from fdlab.models.tokenizer import train_tokenizer
from fdlab.pretraining.packed import pack

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}


def picture(index: int, rng: np.random.Generator) -> PersonSample:
    """One person: a block, grey above by who it is, coloured below by what it wears."""
    identity, color = index % 24, str(rng.choice(list(COLORS)))
    image, segments = np.full((64, 64, 3), rng.integers(200, 255), np.uint8), np.zeros((64, 64), np.uint8)
    left = int(rng.integers(4, 24))
    image[10:30, left : left + 32] = 8 * identity
    image[30:64, left : left + 32] = COLORS[color]
    segments[10:64, left : left + 32] = 1
    caption = f"a photo of a woman in a {color} shirt on a beach"
    truth = {
        "scene": "beach", "style": "photograph" if index % 2 else "watercolor",
        "people": [{"segment": 1, "identity": identity, "noun": "woman",
                    "attributes": {"noun": "woman", "clothes_color": color,
                                   "hat": None if index % 3 else "red"}}],
    }  # fmt: skip
    end = caption.index("woman") + len("woman")
    return PersonSample(
        f"{index:09d}",
        caption,
        image,
        segments,
        (ShownSubject(1, end, identity),),
        truth,
    )


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """A folder in FastComposer's layout: 96 pictures of 24 persons."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    samples = [picture(index, rng) for index in range(96)]
    for sample in samples:
        layout.write_sample(root, sample)
    layout.write_ids(root, [sample.id for sample in samples])
    return root


@pytest.fixture(scope="session")
def packed(people, tmp_path_factory) -> Path:
    """That folder, packed at 32 and 24 pixels."""
    out = tmp_path_factory.mktemp("packed")
    assert pack(people, out, size=32, crop_size=24) == 96
    return out


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A tokenizer of the captions' words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(
        [f"a photo of a woman in a {color} shirt on a beach" for color in COLORS], folder, 560, 24
    )
    return folder
