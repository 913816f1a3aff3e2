"""Training the nano text and image encoders together, as CLIP, on rendered people.

Two things are asked of the image encoder's projection: that it agrees with the text (cut-out people with what
is said of them, whole pictures with their captions), and that a linear map of it tells who somebody is. The
map leaves room for clothes and expression, which the text needs and identity does not.
Axes: B batch, L tokens, D width, 3 RGB, H W pixels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdlab import files
from fdlab.errors import UserError
from fdlab.models.nano import build_image_encoder, build_text_encoder, seeded
from fdlab.pretraining.contrastive import identity_loss, image_text_loss, retrieval_at_one, retrieval_auc
from fdlab.pretraining.packed import load_array, load_list
from fdlab.pretraining.small import Length, SmallTraining, report, train
from fdlab.randomness import numpy_rng
from fdlab.transforms.inputs import normalise

IDENTITY_WIDTH = 96
HELD_OUT_EVERY = 20
"""One identity in so many is held out to score with; more of them where there are few."""


class DualEncoder(nn.Module):
    """CLIP's two encoders, the text's projection, the identity map and the two temperatures."""

    text_encoder: Any
    image_encoder: Any

    def __init__(self, text_encoder: Any, image_encoder: Any, seed: int = 0) -> None:
        super().__init__()
        self.text_encoder, self.image_encoder = text_encoder, image_encoder
        for encoder in (text_encoder, image_encoder):
            # On a CPU in bf16 the fused kernel's backward takes half of a step; plain products take a tenth.
            encoder.set_attn_implementation("eager")
        width = image_encoder.config.projection_dim
        with seeded(seed, "contrastive heads"):
            self.text_projection = nn.Linear(text_encoder.config.hidden_size, width, bias=False)
            self.identity_map = nn.Linear(width, IDENTITY_WIDTH, bias=False)
        self.text_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.identity_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_images(self, pixels_B3HW: Tensor) -> Tensor:
        """Projected class token, BD."""
        return self.image_encoder(pixel_values=pixels_B3HW).image_embeds

    def embed_texts(self, input_ids_BL: Tensor) -> Tensor:
        """Projected end token, BD."""
        return self.text_projection(self.text_encoder(input_ids=input_ids_BL).pooler_output)

    @staticmethod
    def scale(log_scale: Tensor) -> Tensor:
        """Inverse temperature, at most CLIP's 100."""
        return log_scale.clamp(max=math.log(100.0)).exp()


@dataclass(frozen=True)
class PackedPeople:
    """What `fdlab.pretraining.packed` wrote, split by identity, with token ids."""

    crops_MSS4: np.ndarray
    identity_M: np.ndarray
    crop_ids_ML: np.ndarray
    images_NHW3: np.ndarray
    image_ids_NL: np.ndarray
    crops_of: dict[int, np.ndarray]
    """Crops of each training identity with at least two."""
    heldout_crops: np.ndarray
    num_training_images: int

    @classmethod
    def open(cls, folder: Path, tokenizer: Any) -> PackedPeople:
        """Open a packed folder."""
        crops, identity = load_array(folder, "crops.npy"), np.array(load_array(folder, "crop_identity.npy"))
        images, captions = load_array(folder, "images.npy"), load_list(folder, "captions.json")
        members: dict[int, list[int]] = defaultdict(list)
        for index, number in enumerate(identity):
            members[int(number)].append(index)
        several = {n: np.array(found) for n, found in members.items() if n >= 0 and len(found) > 1}
        numbers = sorted(several)
        if len(numbers) < 4:
            raise UserError(f"'{folder}' shows {len(numbers)} people more than once; at least 4 are needed.")
        heldout = set(numbers[:: min(HELD_OUT_EVERY, len(numbers) // 2)])
        return cls(
            crops, identity, tokenize(tokenizer, load_list(folder, "crop_caption.json")), images,
            tokenize(tokenizer, captions), {n: several[n] for n in numbers if n not in heldout},
            np.concatenate([several[n] for n in sorted(heldout)]),
            len(images) - max(1, min(512, len(images) // 20)),
        )  # fmt: skip

    def people(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Indices of two different crops of each of `num` training identities."""
        numbers = list(self.crops_of)
        chosen = rng.choice(len(numbers), num, replace=num > len(numbers))
        return np.concatenate([rng.choice(self.crops_of[numbers[i]], 2, replace=False) for i in chosen])

    def pictures(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Indices of `num` training pictures."""
        return rng.integers(0, self.num_training_images, num)


def tokenize(tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Token ids of texts, padded to the encoder's length; too long ones keep their end token."""
    length = int(tokenizer.model_max_length)
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    return found.input_ids.astype(np.int64)


def shorten(ids_BL: np.ndarray, end: int) -> Tensor:
    """Drop the columns that are padding in every row: causal attention makes them useless, not harmless."""
    longest = int((ids_BL == end).argmax(1).max()) + 1
    return torch.from_numpy(np.ascontiguousarray(ids_BL[:, :longest]))


def lay_on_noise(crops_BSS4: np.ndarray, rng: np.random.Generator, jitter: bool = True) -> Tensor:
    """Cut-outs on uniform noise, normalised (B3SS); `jitter` mirrors and changes brightness at random."""
    crops = crops_BSS4.copy()
    if jitter:
        flipped = rng.random(len(crops)) < 0.5
        crops[flipped] = crops[flipped, :, ::-1]
    alpha = crops[..., 3:].astype(np.float32) / 255
    colour = crops[..., :3].astype(np.float32) / 255
    if jitter:
        colour = np.clip(colour * rng.uniform(0.85, 1.15, (len(crops), 1, 1, 1)).astype(np.float32), 0, 1)
    noise = rng.random(colour.shape, dtype=np.float32)
    mixed = colour * alpha + noise * (1 - alpha)
    return normalise(torch.from_numpy(np.ascontiguousarray(mixed.transpose(0, 3, 1, 2))))


def whole_pictures(images_BHW3: np.ndarray, size: int, flipped_B: np.ndarray | None = None) -> Tensor:
    """Pictures at the encoder's size, normalised (B3SS)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images_BHW3)).permute(0, 3, 1, 2).float() / 255
    if flipped_B is not None:
        pixels = torch.where(torch.from_numpy(flipped_B)[:, None, None, None], pixels.flip(3), pixels)
    if pixels.shape[-1] != size:
        pixels = nn.functional.interpolate(
            pixels, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return normalise(pixels.clamp(0, 1))


def text_labels(ids_BL: np.ndarray) -> Tensor:
    """One number a distinct text, so that equal captions are each other's positives."""
    return torch.from_numpy(np.unique(ids_BL, axis=0, return_inverse=True)[1].reshape(-1))


def training_loss(
    model: DualEncoder, data: PackedPeople, seed: int, step: int, num_people: int, num_pictures: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """One step's loss: cut-outs with phrases, pictures with captions, and who is who."""
    rng = numpy_rng(seed, "clip batch", step)
    chosen, shown = np.sort(data.people(rng, num_people)), np.sort(data.pictures(rng, num_pictures))
    size, end = model.image_encoder.config.image_size, model.text_encoder.config.eos_token_id
    crops = lay_on_noise(data.crops_MSS4[chosen], rng)
    pictures = whole_pictures(data.images_NHW3[shown], size, rng.random(num_pictures) < 0.5)
    ids = np.concatenate([data.crop_ids_ML[chosen], data.image_ids_NL[shown]])
    image_BD = model.embed_images(torch.cat([crops, pictures]))
    text_BD = model.embed_texts(shorten(ids, end))
    n, labels, scale = len(chosen), text_labels(ids), model.scale(model.text_scale)
    person = image_text_loss(image_BD[:n], text_BD[:n], labels[:n], scale)
    picture = image_text_loss(image_BD[n:], text_BD[n:], labels[n:], scale)
    who = identity_loss(
        model.identity_map(image_BD[:n]),
        torch.from_numpy(data.identity_M[chosen]),
        model.scale(model.identity_scale),
    )
    parts = {"person": person.detach(), "picture": picture.detach(), "identity": who.detach()}
    return person + picture + who, parts


@torch.no_grad()
def score(model: DualEncoder, data: PackedPeople, seed: int, num: int = 400) -> dict[str, float]:
    """Held-out scores: identity AUC of projection and identity map, retrieval of captions among `num`."""
    rng = numpy_rng(seed, "clip scores")
    crops, size = np.sort(data.heldout_crops)[:num], model.image_encoder.config.image_size
    cut_outs = [lay_on_noise(data.crops_MSS4[part], rng, jitter=False) for part in np.array_split(crops, 8)]
    embedded = torch.cat([model.embed_images(part) for part in cut_outs if len(part)]).float()
    who = torch.from_numpy(data.identity_M[crops])
    shown = np.arange(data.num_training_images, len(data.images_NHW3))[:num]
    parts = [part for part in np.array_split(shown, 8) if len(part)]
    pictures = torch.cat([model.embed_images(whole_pictures(data.images_NHW3[part], size)) for part in parts])
    texts = torch.cat([model.embed_texts(torch.from_numpy(data.image_ids_NL[part])) for part in parts])
    labels = text_labels(data.image_ids_NL[shown])
    return {
        "heldout_people": float(len(who.unique())),
        "identity_auc_projection": retrieval_auc(embedded - embedded.mean(0), who),
        "identity_auc_map": retrieval_auc(model.identity_map(embedded), who),
        "heldout_pictures": float(len(shown)),
        "caption_at_1": retrieval_at_one(pictures, texts, labels, labels),
        "picture_at_1": retrieval_at_one(texts, pictures, labels, labels),
    }


def export(model: DualEncoder, folder: Path) -> None:
    """Write `text_encoder/` and `image_encoder/` in transformers' layout, fp16."""
    from copy import deepcopy

    for part in ("text_encoder", "image_encoder"):
        deepcopy(getattr(model, part)).half().save_pretrained(Path(folder) / part)


def pretrain(
    data: Path,
    tokenizer_folder: Path,
    folder: Path,
    minutes: float,
    num_people: int = 40,
    num_pictures: int = 48,
    lr: float = 0.01,
    seed: int = 0,
    autocast: bool = True,
    config: dict[str, dict] | None = None,
    max_steps: int | None = None,
) -> bool:
    """Train for `minutes` in all and export; False if stopped by a signal. Run again to go on.

    Writes to `folder`: metrics.csv, checkpoints/, text_encoder/, image_encoder/, scores.json. `config`
    changes keys of the two encoders: {"text": {...}, "image": {...}}.
    """
    from fdlab.models.tokenizer import load_tokenizer

    tokenizer, changes = load_tokenizer(tokenizer_folder), config or {}
    people = PackedPeople.open(data, tokenizer)
    text_encoder = build_text_encoder(tokenizer, changes.get("text"), seed)
    image_encoder = build_image_encoder(changes.get("image"), seed)
    model = DualEncoder(text_encoder, image_encoder, seed)

    def loss_step(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return training_loss(model, people, seed, step, num_people, num_pictures)

    training, folder = SmallTraining(model, loss_step, lr, seed), Path(folder)
    finished = train(training, folder, Length(minutes, max_steps), autocast)
    with training.averaged():
        export(model, folder)
        scores = {**report(training, folder), **score(model, people, seed)}
    files.write_json(folder / "scores.json", scores)
    print(scores, flush=True)
    return finished
