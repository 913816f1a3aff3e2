"""The nano backbone: Stable Diffusion's parts, small enough to be trained on a CPU, made from scratch.

128 px, latents of 16 x 16 x 16, text width 192, 64 tokens; the autoencoder is in `autoencoder.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from fdlab.models.fusion import SubjectFusion
from fdlab.randomness import derive

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

WIDTH = 192
"""Of the text encoder, the image encoder and its projection."""
MAX_TOKENS = 64
REFERENCE_SIZE = 96

UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 16,
    "out_channels": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (96, 96, 128),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    # In UNet2DConditionModel this is the number of heads, whatever its name: 32 channels a head.
    "attention_head_dim": (3, 3, 4),
    "time_embedding_dim": 256,
}
"""5.76 M parameters. Stable Diffusion's layout with three levels: text is attended to at 16, 8 and 4 (the mid
block).

One layer a block and a wide first level. Forward and backward of a batch of 32 on two cores: fp32 0.55 s,
bf16 with channels-last 0.45 s; widths (64, 96, 96) with two layers a block, equal in parameters: 0.58 s and
0.58 s.
"""

TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "projection_dim": WIDTH,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "max_position_embeddings": MAX_TOKENS,
}
VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "projection_dim": WIDTH,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": REFERENCE_SIZE,
    "patch_size": 12,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Stable Diffusion's noise; the class's own defaults are not its."""
SHIPPED = {"reference_crop": "head", "guidance_scale": 3.0, "final_sigma": 0.7}
"""What suits the weights that ship, as conf/backbone/nano.yaml has it."""


@contextmanager
def seeded(seed: int, part: str) -> Iterator[None]:
    """Initialise a part from (seed, its name), and leave the global stream as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialise", part))
        yield


def build_unet(config: Mapping[str, Any] | None = None, seed: int = 0) -> UNet2DConditionModel:
    """A new UNet; `config` changes keys of `UNET`."""
    from diffusers import UNet2DConditionModel

    with seeded(seed, "unet"):
        return UNet2DConditionModel(**{**UNET, **(config or {})})


def build_text_encoder(
    tokenizer: Any, config: Mapping[str, Any] | None = None, seed: int = 0
) -> CLIPTextModel:
    """A new CLIP text encoder with the tokenizer's vocabulary and ends; `config` changes keys of `TEXT`."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ends = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with seeded(seed, "text_encoder"):
        return CLIPTextModel(CLIPTextConfig(**{**TEXT, **ends, **(config or {})}))


def build_image_encoder(
    config: Mapping[str, Any] | None = None, seed: int = 0
) -> CLIPVisionModelWithProjection:
    """A new CLIP image encoder with projection; `config` changes keys of `VISION`."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with seeded(seed, "image_encoder"):
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, **(config or {})}))


def build_fusion(width: int = WIDTH, object_width: int | None = None, seed: int = 0) -> SubjectFusion:
    """A new fusion MLP for a text encoder's width and an image encoder's projection."""
    with seeded(seed, "fusion"):
        return SubjectFusion(width, object_width)
