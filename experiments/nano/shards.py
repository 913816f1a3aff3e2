"""Shards of rendered people for the training of the nano denoisers: pictures, captions, faces, latents.

A shard is one file of a few hundred to a few thousand pictures, with all that frozen networks say of them, so
that a training step runs the denoiser alone. Axes: N pictures, H W pixels, C h w latents, L tokens, D text
width, E embedding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdlab import files
from fdlab.data.captions import encode, null_ids
from fdlab.data.latents import encode_images
from fdlab.data.rendered import TEST_EVERY, spec_of
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.recogniser import FaceresRecogniser
from fdlab.models.conditioning import encode_text
from fdlab.people import picture

DEFAULT_LANDMARKS_52 = ((51.0, 54.0), (77.0, 54.0), (64.0, 67.0), (54.0, 79.0), (74.0, 79.0))
"""Where an aligned picture of 128 px has them: for a picture in which the detector finds no face."""


@dataclass
class Shard:
    """Pictures of one person, or of two; of two, no face is looked for."""

    images_NHW3: np.ndarray
    people_NHW: np.ndarray
    """bool: the people."""
    identity_N: np.ndarray
    """Of the first person."""
    second_N: np.ndarray
    """Identity of the second person; -1 where there is none."""
    latents_NChw: Tensor
    mirrored_NChw: Tensor
    """Latents of the mirrored pictures."""
    text_NLD: Tensor
    null_LD: Tensor
    token_N: Tensor
    """Position of the marked token."""
    second_token_N: Tensor
    """Of the second person's; -1 where there is none."""
    landmarks_N52: Tensor
    found_N: Tensor
    faceres_NE: Tensor

    def __len__(self) -> int:
        return len(self.identity_N)

    @property
    def held_N(self) -> np.ndarray:
        """Whose pictures no training sees."""
        held = TEST_EVERY - 1
        second = (self.second_N >= 0) & (self.second_N % TEST_EVERY == held)
        return (self.identity_N % TEST_EVERY == held) | second

    def shown(self) -> dict[str, Any]:
        """Whom a training on these pictures sees, as `fdlab.data.whom` says it: the numbers that they are
        drawn from."""
        numbers = np.concatenate([self.identity_N, self.second_N[self.second_N >= 0]])
        return {"rendered": [int(numbers.min()), int(numbers.max())]}


def render(mix: str, num: int, seed: int, first: int, last: int, people_each: int = 1) -> dict[str, Any]:
    """Render those of the pictures `first` .. `last` - 1 of a dataset that show one person, or two."""
    images, people, identities, texts, ends = [], [], [], [], []
    for index in range(first, last):
        spec = spec_of(mix, num, seed, index)
        if len(spec.people) != people_each:
            continue
        made = picture.render(spec, 128)
        text, end = picture.describe(spec)
        images.append(made.image_HW3)
        people.append(made.segments_HW > 0)
        identities.append([number for number, _ in spec.people])
        texts.append(text)
        ends.append(end)
    who = np.array(identities, int).reshape(-1, people_each)
    return {
        "images": np.array(images, np.uint8).reshape(-1, 128, 128, 3),
        "people": np.packbits(np.array(people, bool).reshape(-1, 128, 128), axis=2),
        "identity": who[:, 0],
        "second": who[:, 1] if people_each == 2 else np.full(len(who), -1),
        "captions": json.dumps([texts, ends]),
    }


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, whole or not at all."""
    with files.whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def read(path: Path) -> dict[str, Any]:
    """What `render` made and `write` wrote."""
    with np.load(path) as held:
        return {name: held[name] for name in held.files} | {"captions": str(held["captions"])}


def pieced(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `render` makes of several ranges as what it makes of all in one."""
    texts, ends = zip(*(json.loads(piece["captions"]) for piece in pieces), strict=True)
    said = json.dumps([[*chain(*texts)], [*chain(*ends)]])
    arrays = {k: np.concatenate([piece[k] for piece in pieces]) for k in pieces[0] if k != "captions"}
    return arrays | {"captions": said}


def nobody(num: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `faces` returns of pictures in which no face is found."""
    landmarks = torch.tensor([DEFAULT_LANDMARKS_52]).repeat(num, 1, 1)
    return landmarks, torch.zeros(num, dtype=torch.bool), torch.zeros(num, FaceresRecogniser.dim)


@torch.no_grad()
def faces(images_NHW3: np.ndarray, device: str = "cpu", batch: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Landmarks, whether a face was found, and faceres' embedding (zero where none was)."""
    detector, recogniser = FaceDetector(device), FaceresRecogniser(device)
    landmarks, found, embedding = nobody(len(images_NHW3))
    for start in range(0, len(images_NHW3), batch):
        some = [face[:1] for face in detector(images_NHW3[start : start + batch])]
        rows = [k for k, face in enumerate(some) if face]
        if not rows:
            continue
        at = torch.tensor(rows) + start
        landmarks[at] = torch.tensor(np.array([some[k][0].landmarks_52 for k in rows], np.float32))
        found[at] = True
        embedding[at] = recogniser.embed(images_NHW3[at.numpy()], [some[k] for k in rows])
    return landmarks, found, embedding


@torch.no_grad()
def describe(backbone: Any, shard: dict[str, Any], device: str = "cpu", batch: int = 64) -> dict[str, Any]:
    """Latents, plain and mirrored, and text embeddings: fp16."""
    images = shard["images"]
    texts, ends = json.loads(str(shard["captions"]))
    found: dict[str, Any] = {}
    with torch.autocast(device, torch.bfloat16):
        for name, given in (("latents", images), ("mirrored", np.ascontiguousarray(images[:, :, ::-1]))):
            parts = [
                encode_images(backbone.vae, given[i : i + batch], device) for i in range(0, len(given), batch)
            ]
            found[name] = torch.from_numpy(np.concatenate(parts)).half()
    encoded = [encode(backbone.tokenizer, text, end) for text, end in zip(texts, ends, strict=True)]
    ids = torch.from_numpy(np.stack([e.input_ids_L for e in encoded]))
    parts = [encode_text(backbone.text_encoder, some.to(device)).cpu().half() for some in ids.split(128)]
    null = torch.from_numpy(null_ids(backbone.tokenizer))[None].to(device)
    found["text"], found["null"] = torch.cat(parts), encode_text(backbone.text_encoder, null)[0].cpu().half()
    found["token"], found["second_token"] = torch.tensor([[*e.positions, -1][:2] for e in encoded]).T
    return found


def save(
    path: Path, shard: dict[str, Any], found: dict[str, Any], seen: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Write a shard, whole or not at all."""
    tensors = {**found, "landmarks": seen[0], "found": seen[1], "faceres": seen[2].half()}
    arrays = {k: v.numpy() for k, v in tensors.items()} | {k: v for k, v in shard.items() if k != "captions"}
    write(path, {"captions": np.array(shard["captions"]), **arrays})


def load(paths: Sequence[Path]) -> Shard:
    """Read shards, one after the other, as one."""
    read = [np.load(path) for path in paths]

    def array(name: str) -> np.ndarray:
        """What a shard of single people made before there were pairs lacks is -1."""
        return np.concatenate([r[name] if name in r else np.full(len(r["identity"]), -1) for r in read])

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(array(name))

    return Shard(
        array("images"),
        np.unpackbits(array("people"), axis=2).astype(bool),
        array("identity"),
        array("second"),
        tensor("latents"),
        tensor("mirrored"),
        tensor("text"),
        torch.from_numpy(read[0]["null"]),
        tensor("token"),
        tensor("second_token"),
        tensor("landmarks").float(),
        tensor("found"),
        tensor("faceres").float(),
    )


def joined(shards: Sequence[Shard]) -> Shard:
    """Several shards as one."""
    values: dict[str, Any] = {}
    for item in fields(Shard):
        parts = [getattr(s, item.name) for s in shards]
        if item.name == "null_LD":
            values[item.name] = parts[0]
        else:
            values[item.name] = (
                np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)
            )
    return Shard(**values)
