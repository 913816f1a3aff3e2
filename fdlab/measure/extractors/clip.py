"""CLIP features of pictures and prompts, from any transformers CLIP folder.

Axes: B pictures or prompts, L tokens, D projection width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.measure.extractors.batches import in_batches
from fdlab.measure.resize import resize_and_crop
from fdlab.weights import formats

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = "model.safetensors"
CHANNELS = formats.Key((list,), items=formats.Key((float,), low=1e-6, high=1.0), shortest=3, longest=3)
PREPROCESSOR = {"image_mean": CHANNELS, "image_std": CHANNELS}
"""preprocessor_config.json, as far as it is read."""


class TextFeatures(NamedTuple):
    """Unit-length features of prompts, and which prompts were too long."""

    feature_BD: Tensor
    truncated_B: Tensor
    """bool; the prompt had too many tokens for the text encoder and lost its tail (never its end token)."""

    @property
    def num_truncated(self) -> int:
        """How many prompts were cut."""
        return int(self.truncated_B.sum())


class ClipExtractor:
    """A CLIP model as `CLIPModel.save_pretrained` and its tokenizer write it, read from `folder`.

    Features have unit length, so that the dot product of a picture's and a prompt's is the raw cosine (CLIP
    score) and pictures' features serve CMMD. UserError when folder, weights or tokenizer are missing.
    """

    version = "1"

    def __init__(
        self,
        folder: Path | str,
        device: torch.device | str = "cpu",
        tokenizer: Path | str | None = None,
        name: str | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        from fdlab.models.clip import load_clip

        folder = Path(folder).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(
                f"no CLIP model in '{folder}' (config.json is missing); needed: a folder as "
                "`huggingface-cli download openai/clip-vit-large-patch14 --local-dir FOLDER` makes."
            )
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"'{folder}' has no {WEIGHTS}; weights are read from safetensors only.")
        self.device = torch.device(device)
        self.name, self.sha256 = f"clip:{name or folder.name}", sha256(folder / WEIGHTS)
        self.model = load_clip(folder)
        self.model.to(self.device).eval().requires_grad_(False)
        tokenizer = Path(tokenizer).expanduser() if tokenizer is not None else folder
        if not any((tokenizer / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise UserError(f"no tokenizer in '{tokenizer}' (tokenizer.json, or vocab.json and merges.txt).")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        except Exception as error:
            # The reader is somebody else's: any error may come of a broken file.
            line = formats.one_line(error)
            raise UserError(f"the tokenizer in '{tokenizer}' cannot be read: {line}.") from error
        self.dim = int(self.model.config.projection_dim)
        self.image_size = int(self.model.config.vision_config.image_size)
        self.max_tokens = int(self.model.config.text_config.max_position_embeddings)
        mean, std = _normalisation(folder)
        self._mean_3 = torch.tensor(mean, device=self.device)[:, None, None] * 255
        self._std_3 = torch.tensor(std, device=self.device)[:, None, None] * 255

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Unit-length features (B, D) of uint8 RGB pictures of any one size."""
        return in_batches(self._image, images_BHW3, self.dim, self.device)

    images = __call__

    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit-length features (B, D) of prompts alone; `text` also says which were cut."""
        return self.text(prompts).feature_BD

    def _image(self, image_B3HW: Tensor) -> Tensor:
        pixel_B3SS = (resize_and_crop(image_B3HW, self.image_size) - self._mean_3) / self._std_3
        return F.normalize(self.model.get_image_features(pixel_values=pixel_B3SS).pooler_output, dim=-1)

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> TextFeatures:
        """Unit-length features (B, D) of prompts; one too long is cut before its end token and counted."""
        rows, truncated = [], []
        for prompt in prompts:
            ids = self.tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
            truncated.append(len(ids) > self.max_tokens)
            rows.append(ids[: self.max_tokens - 1] + ids[-1:] if truncated[-1] else ids)
        truncated_B = torch.tensor(truncated, dtype=torch.bool)
        if not rows:
            return TextFeatures(torch.zeros(0, self.dim), truncated_B)
        length = max(len(row) for row in rows)
        # Causal attention hides from the end token what follows it; so it is itself a safe filler.
        pad = self.tokenizer.pad_token_id
        filled = [row + [row[-1] if pad is None else pad] * (length - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (length - len(row)) for row in rows]
        output = self.model.get_text_features(
            input_ids=torch.tensor(filled, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
        )
        return TextFeatures(F.normalize(output.pooler_output, dim=-1).cpu(), truncated_B)


def _normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    path = folder / "preprocessor_config.json"
    settings = formats.read(path, PREPROCESSOR) if path.exists() else {}
    return settings.get("image_mean", CLIP_MEAN), settings.get("image_std", CLIP_STD)
