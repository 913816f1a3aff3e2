"""The judge: networks of its own that say what a picture of rendered people shows. They only measure.

A folder holds a stock `CLIPModel` with its tokenizer, for the CLIP score; `heads.safetensors`, the network
that answers (`answering`); and `judge.json`: every head's vocabulary, and the network's widths.
Axes: B pictures, L tokens, D width, K answers, H W pixels, 3 RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fdlab import files
from fdlab.errors import UserError
from fdlab.models.answering import WIDTHS, Answering
from fdlab.models.clip import load_clip
from fdlab.models.nano import seeded
from fdlab.transforms.inputs import normalise
from fdlab.weights.eight_bits import rounded, unrounded
from fdlab.weights.files import read_weights
from fdlab.weights.formats import read_judge

if TYPE_CHECKING:
    from transformers import CLIPModel

HEADS = "heads.safetensors"
"""Beside the CLIP: what answers."""
VISION: dict[str, Any] = {
    "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
    "image_size": 128, "patch_size": 16,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 6,
    "max_position_embeddings": 64,
}  # fmt: skip
PROJECTION = 128


def build_clip(
    tokenizer: Any, seed: int, vision: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None
) -> CLIPModel:
    """A new CLIPModel with the tokenizer's vocabulary; its sizes and seed are not the conditioner's."""
    from transformers import CLIPConfig, CLIPModel

    ends = {
        "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config = CLIPConfig(
        text_config={**TEXT, **ends, **(text or {})},
        vision_config={**VISION, **(vision or {})},
        projection_dim=PROJECTION,
    )
    with seeded(seed, "judge"):
        return CLIPModel(config)


class Judge(nn.Module):
    """A CLIP model, and beside it the network that answers.

    `vocabularies`: attribute -> answers, in the order of the head's outputs.
    """

    def __init__(
        self,
        clip: CLIPModel,
        vocabularies: Mapping[str, Sequence[str]],
        seed: int = 0,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.clip, self.widths = clip, list(widths)
        self.vocabularies = {name: list(words) for name, words in vocabularies.items()}
        with seeded(seed, "judge heads"):
            self.answering = Answering(self.vocabularies, widths)
        self.name, self.sha256 = "judge", ""

    @property
    def image_size(self) -> int:
        """Side of the pictures that the network takes."""
        return int(self.clip.config.vision_config.image_size)

    def pixels(self, images_BHW3: np.ndarray) -> Tensor:
        """uint8 pictures of any one square size as the network takes them, B3SS."""
        pixels = torch.from_numpy(np.array(images_BHW3)).permute(0, 3, 1, 2).float() / 255
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
        return normalise(pixels.clamp(0, 1))

    def forward(self, pixels_B3SS: Tensor) -> dict[str, Tensor]:
        """Each attribute's logits BK."""
        answers: dict[str, Tensor] = self.answering(pixels_B3SS)
        return answers

    def embed_images(self, pixels_B3SS: Tensor) -> Tensor:
        """Projected features of pictures, BD."""
        return self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels_B3SS).pooler_output)

    def embed_texts(self, input_ids_BL: Tensor) -> Tensor:
        """Projected features of texts, BD."""
        return self.clip.text_projection(self.clip.text_model(input_ids=input_ids_BL).pooler_output)

    @torch.no_grad()
    def judge(self, images_BHW3: np.ndarray, batch_size: int = 32) -> dict[str, list[str]]:
        """What each uint8 picture shows: attribute -> one answer a picture."""
        found: dict[str, list[str]] = {name: [] for name in self.vocabularies}
        device = next(self.parameters()).device
        for start in range(0, len(images_BHW3), batch_size):
            answers = self(self.pixels(images_BHW3[start : start + batch_size]).to(device))
            for name, logits_BK in answers.items():
                found[name] += [self.vocabularies[name][k] for k in logits_BK.argmax(1).tolist()]
        return found

    def save(self, folder: Path | str, tokenizer_folder: Path | str) -> None:
        """Write the folder, CLIP in fp16 and kernels in eight bits, the tokenizer's files copied into it."""
        from copy import deepcopy

        folder = Path(folder)
        deepcopy(self.clip).half().save_pretrained(folder)
        with files.whole(folder / HEADS) as temporary:
            save_file(rounded(self.answering.state_dict(), axes=4), temporary)
        files.write_json(folder / "judge.json", {"heads": self.vocabularies, "widths": self.widths})
        for path in sorted(Path(tokenizer_folder).iterdir()):
            if path.suffix in (".json", ".txt"):
                files.write_bytes(folder / path.name, path.read_bytes())

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Judge:
        """Read a folder, fp32, for evaluation. Raises UserError naming what is missing or does not fit."""
        folder = Path(folder)
        for name in ("judge.json", HEADS, "config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"the judge in '{folder}' lacks '{name}'; copy the whole folder.")
        vocabularies, widths = read_judge(folder / "judge.json")
        judge = cls(load_clip(folder), vocabularies, widths=widths)
        kept = unrounded(read_weights(folder / HEADS))
        state = {name: tensor.float() for name, tensor in kept.items()}
        wanted = {name: tensor.shape for name, tensor in judge.answering.state_dict().items()}
        if {name: tensor.shape for name, tensor in state.items()} != wanted:
            raise UserError(f"'{folder}/{HEADS}' does not fit the vocabularies and widths in judge.json.")
        judge.answering.load_state_dict(state)
        both = files.sha256(folder / "model.safetensors") + files.sha256(folder / HEADS)
        judge.name, judge.sha256 = f"judge:{folder.name}", hashlib.sha256(both.encode()).hexdigest()
        return judge.to(device).eval().requires_grad_(False)


class JudgeExtractor:
    """A loaded judge as what measuring asks for: `name`, `sha256`, pictures in, answers out. No module."""

    def __init__(self, folder: Path | str, device: str = "cpu") -> None:
        self.judge = Judge.load(folder, device)
        self.name, self.sha256 = self.judge.name, self.judge.sha256

    def __call__(self, images_BHW3: np.ndarray) -> dict[str, list[str]]:
        """Attribute -> one answer a picture."""
        return self.judge.judge(images_BHW3)
