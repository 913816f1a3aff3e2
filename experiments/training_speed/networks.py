"""Stable Diffusion 1.5's networks with random weights, and a batch for them. Axes as in released_training."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fdlab.models.backbone import Backbone
from fdlab.models.fusion import SubjectFusion
from fdlab.models.nano import seeded
from fdlab.randomness import torch_generator

# The networks, the ceilings and the counting are those of the drawing's benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sampling_speed"))

from workloads import TEXT_WIDTH, TOKENS, WIDTH, sd15_networks

NUM_SUBJECTS = 4
"""Places for subjects a sample, as released; every second sample has one, the others two."""
VOCABULARY = 49408


def backbone(size: int = 512, width: int = WIDTH) -> Backbone:
    """UNet and autoencoder for pictures of `size` px, CLIP's text encoder and ViT-L/14, and the fusion.

    A `width` below 320 shrinks everything, so that a CPU can try it.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    whole, parts = width == WIDTH, sd15_networks(size, width)
    with seeded(0, "text_encoder"):
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                num_hidden_layers=12 if whole else 1,
                num_attention_heads=12,
                bos_token_id=VOCABULARY - 2,
                eos_token_id=VOCABULARY - 1,
            )
        )
    with seeded(0, "image_encoder"):
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1024 if whole else 64,
                intermediate_size=4096 if whole else 128,
                num_hidden_layers=24 if whole else 3,
                num_attention_heads=16 if whole else 2,
                image_size=224 if whole else 56,
                patch_size=14,
                projection_dim=TEXT_WIDTH,
            )
        )
    with seeded(0, "fusion"):
        fusion = SubjectFusion(TEXT_WIDTH)
    made = Backbone(
        name="sd15-random" if whole else f"sd15-random, width {width}",
        vae=parts["vae"],
        text_encoder=text,
        image_encoder=vision,
        unet=parts["tdm_unet"],
        fusion=fusion,
        # Of the tokenizer a training takes the empty prompt alone.
        tokenizer=_Empty(),
        scheduler_config={
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
        },
        image_size=size,
        latent_shape_CHW=(4, size // 8, size // 8),
    )
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    return made


class _Empty:
    """What a training asks a tokenizer for: the ids of the empty prompt."""

    model_max_length = TOKENS
    bos_token_id, eos_token_id = VOCABULARY - 2, VOCABULARY - 1
    pad_token_id = eos_token_id

    def __call__(self, _: str, **__: Any) -> Any:
        return SimpleNamespace(input_ids=[])


def null_ids_L() -> Tensor:
    """Token ids of the empty prompt."""
    return torch.tensor([VOCABULARY - 2] + [VOCABULARY - 1] * (TOKENS - 1))


def batch(of: Backbone, num: int) -> dict[str, Tensor]:
    """`num` random samples as a loader makes them, on the CPU: pictures, ids, references, discs as masks."""
    generator = torch_generator(0, "batch")
    side, (_, height, width) = of.reference_size, of.latent_shape_CHW
    ids_BL = torch.full((num, TOKENS), VOCABULARY - 1)
    ids_BL[:, 0] = VOCABULARY - 2
    ids_BL[:, 1:12] = torch.randint(0, VOCABULARY - 2, (num, 11), generator=generator)
    index_BN = torch.tensor([[3, 7, 0, 0]]).expand(num, -1).contiguous()
    valid_BN = torch.zeros(num, NUM_SUBJECTS, dtype=torch.bool)
    valid_BN[:, 0] = True
    valid_BN[::2, 1] = True
    marked_BL = torch.zeros(num, TOKENS, dtype=torch.bool)
    for n in range(2):
        marked_BL[torch.arange(num)[valid_BN[:, n]], index_BN[valid_BN[:, n], n]] = True
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    mask_BNHW = torch.zeros(num, NUM_SUBJECTS, height, width)
    for n, centre in enumerate((0.3, 0.7)):
        disc_HW = ((x - centre).square() + (y - 0.5).square() < 0.04).float()
        mask_BNHW[:, n] = disc_HW * valid_BN[:, n, None, None]
    return {
        "image_B3HW": torch.rand(num, 3, of.image_size, of.image_size, generator=generator) * 2 - 1,
        "references_BN3HW": torch.randn(num, NUM_SUBJECTS, 3, side, side, generator=generator),
        "input_ids_BL": ids_BL,
        "subject_token_BL": marked_BL,
        "token_index_BN": index_BN,
        "subject_valid_BN": valid_BN,
        "mask_BNHW": mask_BNHW,
    }
