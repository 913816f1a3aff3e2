"""Backbones with random weights, so small that a test can build and run them in a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.nano import (
    SCHEDULER,
    build_fusion,
    build_image_encoder,
    build_text_encoder,
    build_unet,
    seeded,
)
from fdlab.models.tokenizer import load_tokenizer, train_tokenizer

CAPTIONS = (
    "a woman in a red sweater on a beach",
    "a man with glasses and a beard in a forest",
    "a photograph of a woman and a man in a city at night",
    "a pencil drawing of a smiling man in a library",
)
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "projection_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_VISION = {**_TEXT, "num_hidden_layers": 3, "image_size": 24, "patch_size": 12}


def tiny_tokenizer(max_tokens: int, vocab_size: int = 600) -> Any:
    """A tokenizer made from four captions; any other text goes letter by letter."""
    with TemporaryDirectory() as folder:
        train_tokenizer(CAPTIONS, folder, vocab_size, max_tokens)
        return load_tokenizer(folder)


def tiny_backbone(seed: int = 0) -> Backbone:
    """The nano backbone's layout in miniature: 64 px, latents 4 x 8 x 8, width 32, 32 tokens, references 24
    px."""
    from fdlab.models.autoencoder import NanoAutoencoder

    tokenizer = tiny_tokenizer(max_tokens=32)
    shape = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 32}
    widths = {"block_out_channels": (16, 16, 32), "attention_head_dim": (2, 2, 4), "norm_num_groups": 8}
    with seeded(seed, "vae"):
        vae = NanoAutoencoder(
            latent_channels=4, outer_width=16, inner_width=16, fine_width=16, sample_size=64
        )
    return _frozen(
        Backbone(
            name="tiny",
            vae=vae,
            text_encoder=build_text_encoder(tokenizer, {**_TEXT, "max_position_embeddings": 32}, seed),
            image_encoder=build_image_encoder(_VISION, seed),
            unet=build_unet({**shape, **widths, "time_embedding_dim": 32}, seed),
            fusion=build_fusion(32, seed=seed),
            tokenizer=tokenizer,
            scheduler_config=dict(SCHEDULER),
            image_size=64,
            latent_shape_CHW=(4, 8, 8),
        )
    )


def tiny_sd15(seed: int = 0, subjects: bool = False) -> Backbone:
    """Stable Diffusion 1.5's layout in miniature: its classes, four UNet levels, 77 tokens, PNDM; 64 px,
    width 32.

    `subjects` adds what Face-diffuser's SDM has besides: image encoder and fusion.
    """
    from diffusers import AutoencoderKL

    tokenizer = tiny_tokenizer(max_tokens=77)
    unet: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 2,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "time_embedding_dim": None,
    }
    with seeded(seed, "vae"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.18215,
        )
    return _frozen(
        Backbone(
            name="tiny-sd15",
            vae=vae,
            text_encoder=build_text_encoder(tokenizer, {**_TEXT, "max_position_embeddings": 77}, seed),
            image_encoder=build_image_encoder(_VISION, seed) if subjects else None,
            unet=build_unet(unet, seed),
            fusion=build_fusion(32, seed=seed) if subjects else None,
            tokenizer=tokenizer,
            scheduler_config={**SCHEDULER, "_class_name": "PNDMScheduler", "skip_prk_steps": True},
            image_size=64,
            latent_shape_CHW=(4, 8, 8),
        )
    )


def write_tiny_sd15(folder: Path | str, seed: int = 0, subjects: bool = False, half: bool = False) -> Path:
    """Write `tiny_sd15` as a folder in diffusers' layout."""
    save_backbone(folder, tiny_sd15(seed, subjects), half)
    return Path(folder)


def _frozen(backbone: Backbone) -> Backbone:
    for network in backbone.networks().values():
        network.eval().requires_grad_(False)
    return backbone
