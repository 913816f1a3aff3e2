"""Stable Diffusion 1 and 2 in miniature, as far as files in the original layout allow.

Norms of 32 groups, 8 heads (1) or heads of 64 channels (2), four levels, the last without attention.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdlab.models.backbone import Backbone
from fdlab.models.nano import SCHEDULER, build_text_encoder, build_unet, seeded
from tests.worlds.backbones import tiny_tokenizer


def tiny_original(kind: str = "sd1", seed: int = 0, prediction_type: str = "epsilon") -> Backbone:
    """A backbone that has a single file: width 64, 77 tokens, pictures of 64 px."""
    from diffusers import AutoencoderKL

    tokenizer = tiny_tokenizer(max_tokens=77)
    widths = (32, 32, 64, 64) if kind == "sd1" else (64, 64, 64, 128)
    unet: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "block_out_channels": widths,
        "layers_per_block": 2 if kind == "sd1" else 1,
        "cross_attention_dim": 64,
        "attention_head_dim": 8 if kind == "sd1" else [width // 64 for width in widths],
        "use_linear_projection": kind == "sd2",
        "time_embedding_dim": None,
    }
    text = {
        "hidden_size": 64, "intermediate_size": 128, "projection_dim": 64 if kind == "sd1" else 32,
        "num_hidden_layers": 2, "num_attention_heads": 1, "max_position_embeddings": 77,
        "hidden_act": "quick_gelu" if kind == "sd1" else "gelu",
    }  # fmt: skip
    with seeded(seed, "vae"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 64),
            layers_per_block=2 if kind == "sd1" else 1,
            latent_channels=4,
            sample_size=64,
            scaling_factor=0.18215,
        )
    made = Backbone(
        name=f"tiny-{kind}",
        vae=vae,
        text_encoder=build_text_encoder(tokenizer, text, seed),
        unet=build_unet(unet, seed),
        tokenizer=tokenizer,
        scheduler_config={**SCHEDULER, "prediction_type": prediction_type},
        image_size=64,
        latent_shape_CHW=(4, 8, 8),
    )
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    return made


def write_original(file: Path, backbone: Backbone, **more: Any) -> Path:
    """Its single file, with `more` tensors in it."""
    import torch
    from safetensors.torch import save_file

    from fdlab.exchange.ldm_names import original

    state = {name: tensor.contiguous() for name, tensor in original(backbone).items()} | more
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state, "global_step": 1}, file)
    return file
