"""Training the judge on rendered pictures whose truth is known.

Axes: B batch, N pictures, A attributes, K answers, H W S pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab import files
from fdlab.models.clip import load_clip
from fdlab.models.judge import Judge, build_clip
from fdlab.pretraining.clip import shorten, text_labels, tokenize
from fdlab.pretraining.contrastive import image_text_loss, retrieval_at_one
from fdlab.pretraining.packed import load_array, load_list
from fdlab.pretraining.small import Length, SmallTraining, report, train
from fdlab.randomness import numpy_rng
from fdlab.transforms.inputs import normalise

PICTURE_ATTRIBUTES = ("scene", "hour", "style")
PERSON_ATTRIBUTES = (
    "noun", "age", "hair_color", "hair_style", "beard", "glasses", "expression", "garment", "clothes_color",
    "pattern", "hat", "scarf",
)  # fmt: skip
UNKNOWN = -1


def answers_of(truth: Mapping[str, Any]) -> dict[str, str]:
    """What a truth answers; a person's attributes only where there is one person, "none" for nothing worn."""
    found = {name: str(truth[name]) for name in PICTURE_ATTRIBUTES if truth.get(name) is not None}
    people = truth.get("people", [])
    if people:
        found["people"] = str(len(people))
    if len(people) == 1:
        attributes = people[0].get("attributes", {})
        found |= {name: str(attributes[name] or "none") for name in PERSON_ATTRIBUTES if name in attributes}
    return found


def vocabularies_of(answers: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Every attribute with the answers that occur, sorted; attributes with one answer only are left out."""
    names = sorted({name for entry in answers for name in entry})
    found = {name: sorted({entry[name] for entry in answers if name in entry}) for name in names}
    return {name: words for name, words in found.items() if len(words) > 1}


def coded(answers: Sequence[Mapping[str, str]], vocabularies: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Answers as indices (N, A) in the vocabularies' order, UNKNOWN where nothing is known."""
    rank = {name: {word: k for k, word in enumerate(words)} for name, words in vocabularies.items()}
    rows = [[rank[name].get(entry.get(name, ""), UNKNOWN) for name in vocabularies] for entry in answers]
    return np.array(rows, np.int64).reshape(len(answers), len(vocabularies))


def head_loss(logits: Mapping[str, Tensor], target_BA: Tensor) -> Tensor:
    """Mean cross-entropy over attributes; unknown answers do not count."""
    losses = [
        F.cross_entropy(logits_BK.float(), target_BA[:, a], ignore_index=UNKNOWN)
        for a, logits_BK in enumerate(logits.values())
        if (target_BA[:, a] != UNKNOWN).any()
    ]
    return torch.stack(losses).mean()


def worsened(images_BHW3: np.ndarray, size: int, rng: np.random.Generator) -> Tensor:
    """Pictures as samples may be (B3SS, normalised): mirrored, shifted, enlarged, soft, noisy, brighter.

    The judge is trained on sharp renders and asked about samples; what it learns must survive the difference.
    """
    pixels = torch.from_numpy(np.array(images_BHW3)).permute(0, 3, 1, 2).float() / 255
    count = len(pixels)
    mirror, zoom = rng.choice([-1.0, 1.0], count), rng.uniform(0.85, 1.0, count)
    shift = rng.uniform(-1, 1, (count, 2)) * (1 - zoom)[:, None]
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = zoom * mirror, zoom, shift
    grid = F.affine_grid(torch.from_numpy(theta), [count, 3, size, size], align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(pixels, 2), (size, size), mode="bilinear", align_corners=False)
    softness = rng.uniform(0, 0.8, (count, 1, 1, 1)) * (rng.random((count, 1, 1, 1)) < 0.5)
    share = torch.from_numpy(softness).float()
    pixels = pixels.lerp(soft, share) * torch.from_numpy(rng.uniform(0.88, 1.12, (count, 1, 1, 1))).float()
    strength = torch.from_numpy(rng.uniform(0, 0.04, (count, 1, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, np.float32))
    return normalise((pixels + strength * noise).clamp(0, 1))


@dataclass(frozen=True)
class JudgedPictures:
    """Packed pictures with token ids and coded answers; the last 5 % (at most 1,000) are held out."""

    images_NHW3: np.ndarray
    ids_NL: np.ndarray
    target_NA: np.ndarray
    vocabularies: dict[str, list[str]]

    @classmethod
    def open(cls, folder: Path, tokenizer: Any) -> JudgedPictures:
        """Open a folder that `fdlab.pretraining.packed` wrote."""
        answers = [answers_of(truth) for truth in load_list(folder, "truths.json")]
        vocabularies = vocabularies_of(answers)
        ids = tokenize(tokenizer, load_list(folder, "captions.json"))
        return cls(load_array(folder, "images.npy"), ids, coded(answers, vocabularies), vocabularies)

    @property
    def num_training(self) -> int:
        """Pictures that are trained on: the first ones."""
        return len(self.images_NHW3) - max(1, min(1000, len(self.images_NHW3) // 20))


@torch.no_grad()
def score(judge: Judge, data: JudgedPictures) -> dict[str, float]:
    """Held-out accuracy of each head where the truth is known, and retrieval of captions."""
    shown, device = slice(data.num_training, len(data.images_NHW3)), next(judge.parameters()).device
    found, target_BA = judge.judge(data.images_NHW3[shown]), data.target_NA[shown]
    scores = {}
    for a, (name, words) in enumerate(data.vocabularies.items()):
        known = target_BA[:, a] != UNKNOWN
        right = np.array([words.index(word) for word in found[name]]) == target_BA[:, a]
        scores[name] = float(right[known].mean()) if known.any() else 0.0
    ids = data.ids_NL[shown][:400]
    parts = [part for part in np.array_split(data.images_NHW3[shown][:400], 8) if len(part)]
    images = torch.cat([judge.embed_images(judge.pixels(part).to(device)).cpu() for part in parts])
    id_parts = [torch.from_numpy(part).to(device) for part in np.array_split(ids, 8) if len(part)]
    texts, labels = torch.cat([judge.embed_texts(part).cpu() for part in id_parts]), text_labels(ids)
    scores["caption_at_1"] = retrieval_at_one(images, texts, labels, labels)
    return {**scores, "pictures": float(len(data.images_NHW3) - data.num_training)}


def pretrain(
    data: Path,
    tokenizer_folder: Path,
    folder: Path,
    minutes: float,
    batch_size: int = 96,
    lr: float = 0.01,
    seed: int = 1000,
    autocast: bool = True,
    config: dict[str, dict] | None = None,
    max_steps: int | None = None,
    clip_folder: Path | None = None,
    device: str = "cpu",
) -> bool:
    """Train for `minutes` in all and export; False if stopped by a signal. Run again to go on.

    Writes to `folder`: metrics.csv, checkpoints/, judge/, scores.json. `config`: {"text": {...}, "vision":
    {...}, "answering": {"widths": [...]}} changes sizes. `clip_folder`: keep this judge's CLIP as it is.
    """
    from fdlab.models.tokenizer import load_tokenizer

    tokenizer, changes = load_tokenizer(tokenizer_folder), config or {}
    pictures = JudgedPictures.open(data, tokenizer)
    if clip_folder:
        clip = load_clip(clip_folder).eval().requires_grad_(False)
    else:
        clip = build_clip(tokenizer, seed, changes.get("vision"), changes.get("text"))
        # On a CPU in bf16 the fused kernel's backward takes half of a step; plain products take a tenth.
        clip.set_attn_implementation("eager")
    judge = Judge(clip, pictures.vocabularies, seed, **changes.get("answering", {})).to(device)
    judge.answering.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def retrieval(pixels_B3SS: Tensor, ids: np.ndarray) -> Tensor:
        text_BD = judge.embed_texts(torch.as_tensor(shorten(ids, tokenizer.eos_token_id)).to(device))
        scale = clip.logit_scale.clamp(max=4.6).exp()
        return image_text_loss(judge.embed_images(pixels_B3SS), text_BD, text_labels(ids).to(device), scale)

    def loss_step(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rng = numpy_rng(seed, "judge batch", step)
        chosen = np.sort(rng.integers(0, pictures.num_training, batch_size))
        pixels = worsened(pictures.images_NHW3[chosen], judge.image_size, rng).to(device)
        heads = head_loss(judge(pixels), torch.from_numpy(pictures.target_NA[chosen]).to(device))
        if clip_folder:
            return heads, {"heads": heads.detach()}
        pairs = retrieval(pixels, pictures.ids_NL[chosen])
        return heads + 0.3 * pairs, {"heads": heads.detach(), "retrieval": pairs.detach()}

    training, folder = SmallTraining(judge, loss_step, lr, seed), Path(folder)
    finished = train(training, folder, Length(minutes, max_steps), autocast, device=device)
    with training.averaged():
        judge.save(folder / "judge", tokenizer_folder)
        scores = {**report(training, folder), **score(judge, pictures)}
    files.write_json(folder / "scores.json", scores)
    print(scores, flush=True)
    return finished
