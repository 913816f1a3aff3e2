"""Pictures packed for the small networks' training: memory-mapped arrays made once from a folder of people.

    images.npy (N, H, W, 3) uint8
    weights.npy (N, H, W) uint8        how much a pixel counts for the autoencoder
    captions.json, truths.json         N strings; N objects, empty for photographs
    crops.npy (M, S, S, 4) uint8       people cut out, alpha outside them 0
    crop_identity.npy (M,) int64       -1: unknown
    crop_caption.json                  M strings: what the caption says of this person
Axes: N pictures, M people, H W pixels, S side of a cut-out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import files
from fdlab.data import layout
from fdlab.data.arrays import map_array
from fdlab.data.sample import PersonSample
from fdlab.errors import UserError
from fdlab.transforms.framing import framed
from fdlab.transforms.references import cut_rgba

PERSON_WEIGHT, HEAD_WEIGHT = 2, 4
HEAD_DECIMETRES = 2.8
"""From the top of the hair to below the chin."""
SMALLEST_PERSON = 200
"""Pixels; less of a person shows nothing that could be recognised."""
_NOUN_PHRASE = re.compile(r"\ban? (?:[a-z-]+ )?[a-z]+$")


def person_phrases(caption: str, ends: Sequence[int], place: str = "") -> list[str]:
    """What a caption says of each person, from the article on; `place`, the words for where, ends it."""
    starts = []
    for end in ends:
        match = _NOUN_PHRASE.search(caption[:end])
        starts.append(match.start() if match else 0)
    at = caption.rfind(f" {place}") if place else -1
    last = at if ends and at > ends[-1] else len(caption)
    stops = [*starts[1:], last][: len(starts)]
    pieces = [caption[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return [re.sub(r"(,| and)? *$", "", piece) for piece in pieces]


def pixel_weights(segments_HW: np.ndarray, pixels_a_decimetre: float | None) -> np.ndarray:
    """1 for the background, more for people, most for their heads (uint8 HW).

    Without a known scale the upper 55 % of what is seen of a person is taken for the head.
    """
    weights_HW = np.ones(segments_HW.shape, np.uint8)
    for label in np.unique(segments_HW[segments_HW > 0]):
        person_HW = segments_HW == label
        rows = np.flatnonzero(person_HW.any(1))
        tall = HEAD_DECIMETRES * pixels_a_decimetre if pixels_a_decimetre else 0.55 * (rows[-1] + 1 - rows[0])
        weights_HW[person_HW] = PERSON_WEIGHT
        head = person_HW[: rows[0] + round(tall)]
        weights_HW[: rows[0] + round(tall)][head] = HEAD_WEIGHT
    return weights_HW


def place_of(truth: dict[str, Any]) -> str:
    """The words a rendered picture's caption ends with, "" for a photograph."""
    from fdlab.people.scenes import SCENES

    scene = SCENES.get(truth.get("scene", ""))
    return scene[1] if scene else ""


def _people(sample: PersonSample) -> Iterator[tuple[np.ndarray, int, str]]:
    """Mask, identity (-1 unknown) and phrase of each person large enough to be seen."""
    phrases = person_phrases(sample.caption, [s.end for s in sample.subjects], place_of(sample.truth))
    for subject, phrase in zip(sample.subjects, phrases, strict=True):
        mask_HW = sample.segments_HW == subject.segment
        if mask_HW.sum() >= SMALLEST_PERSON:
            yield mask_HW, -1 if subject.identity is None else subject.identity, phrase


def pack(
    root: Path, out: Path, size: int = 128, crop_size: int = 96, split: str = "train", limit: int = 0
) -> int:
    """Pack the folder `root` (FastComposer's layout) into `out`; returns the number of pictures."""
    from fdlab.progress import track

    ids = layout.read_ids(root, split) if limit == 0 else layout.read_ids(root, split)[:limit]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(out / ".images.npy", "w+", np.uint8, (len(ids), size, size, 3))
    weights = np.lib.format.open_memmap(out / ".weights.npy", "w+", np.uint8, (len(ids), size, size))
    captions, truths, crops, identities, phrases = [], [], [], [], []
    for index, id in enumerate(track(ids, description="packing", total=len(ids))):
        sample = layout.read_sample(root, id)
        images[index], segments_HW = framed(sample.image_HW3, sample.segments_HW, (size, size))
        scale = sample.truth.get("framing", {}).get("scale")
        weights[index] = pixel_weights(segments_HW, scale * size / 128 if scale else None)
        captions.append(sample.caption)
        truths.append(sample.truth)
        for mask_HW, identity, phrase in _people(sample):
            crops.append(cut_rgba(sample.image_HW3, mask_HW, crop_size))
            identities.append(identity)
            phrases.append(phrase)
    images.flush()
    weights.flush()
    with files.whole(out / "crops.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, np.stack(crops) if crops else np.zeros((0, crop_size, crop_size, 4), np.uint8))
    with files.whole(out / "crop_identity.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array(identities, np.int64))
    files.write_json(out / "crop_caption.json", phrases)
    files.write_json(out / "captions.json", captions)
    files.write_text(out / "truths.json", json.dumps(truths))
    (out / ".weights.npy").replace(out / "weights.npy")
    (out / ".images.npy").replace(out / "images.npy")
    return len(ids)


def load_array(folder: Path, name: str) -> np.ndarray:
    """Memory-map one packed array. Raises UserError naming what is missing."""
    path = Path(folder) / name
    if not path.exists():
        raise UserError(f"no '{name}' in '{folder}'; make it with experiments/nano/pack.py.")
    return map_array(path)


def load_list(folder: Path, name: str) -> list[Any]:
    """Read one packed JSON list. Raises UserError naming what is missing."""
    path = Path(folder) / name
    if not path.exists():
        raise UserError(f"no '{name}' in '{folder}'; make it with experiments/nano/pack.py.")
    return json.loads(path.read_text())
