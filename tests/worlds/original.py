"""Stable Diffusion 1, 2, XL and 3 in miniature, as far as files in the original layout allow.

Norms of 32 groups, 8 heads (1) or heads of 64 channels (all others); of 1 and 2 four levels, the last without
attention, of XL three, the first without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdlab.models.backbone import Backbone
from fdlab.models.nano import SCHEDULER, build_text_encoder, build_unet, seeded
from tests.worlds import pairs
from tests.worlds.backbones import tiny_tokenizer


def tiny_original(kind: str = "sd1", seed: int = 0, prediction_type: str = "epsilon") -> Backbone:
    """A backbone that has a single file: width 64, 77 tokens, pictures of 64 px."""
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
        **TEXT, "projection_dim": 64 if kind == "sd1" else 32,
        "hidden_act": "quick_gelu" if kind == "sd1" else "gelu",
    }  # fmt: skip
    return pairs.frozen(
        Backbone(
            name=f"tiny-{kind}",
            vae=vae(seed, 2 if kind == "sd1" else 1, 4, scaling_factor=0.18215),
            text_encoder=build_text_encoder(tokenizer, text, seed),
            unet=build_unet(unet, seed),
            tokenizer=tokenizer,
            scheduler_config={**SCHEDULER, "prediction_type": prediction_type},
            image_size=64,
            latent_shape_CHW=(4, 8, 8),
        )
    )


TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1,
    "max_position_embeddings": 77,
}  # fmt: skip


def vae(seed: int, layers: int, channels: int, **config: Any) -> Any:
    """A random AutoencoderKL of norms of 32 groups."""
    from diffusers import AutoencoderKL

    with seeded(seed, "vae"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 64),
            layers_per_block=layers,
            latent_channels=channels,
            sample_size=64,
            **config,
        )


def tiny_original_pair(kind: str, seed: int = 0) -> Backbone:
    """Stable Diffusion XL or 3 as it has a single file; text widths 64 and 128, pictures of 64 px."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer, tokenizer_2 = tiny_tokenizer(max_tokens=77), tiny_tokenizer(max_tokens=77)
    tokenizer_2.pad_token = "!"
    first: Any = build_text_encoder(
        tokenizer, {**TEXT, "projection_dim": 64, "hidden_act": "quick_gelu"}, seed
    )
    wide = {"hidden_size": 128, "num_attention_heads": 2, "projection_dim": 96, "hidden_act": "gelu"}
    ends = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    with seeded(seed, "text"):
        second = CLIPTextModelWithProjection(CLIPTextConfig(**{**TEXT, **wide, **ends}))
        if kind == "sd3":
            first = CLIPTextModelWithProjection(CLIPTextConfig(**first.config.to_dict()))
            first.text_projection.weight.data = torch.eye(64)
    make = _xl if kind == "sdxl" else _sd3
    return pairs.frozen(
        Backbone(
            name=f"tiny-{kind}",
            text_encoder=first,
            text_encoder_2=second,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            image_size=64,
            **make(seed),
        )
    )


def _xl(seed: int) -> dict[str, Any]:
    unet = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (64, 64, 128), "attention_head_dim": (1, 1, 2), "layers_per_block": 1,
        "transformer_layers_per_block": (1, 2, 3), "cross_attention_dim": 192, "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 96 + 48, "time_embedding_dim": None,
    }  # fmt: skip
    euler = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
    return {
        "unet": build_unet(unet, seed),
        "vae": vae(seed, 1, 4, scaling_factor=0.13025),
        "scheduler_config": {**SCHEDULER, **euler},
        "latent_shape_CHW": (4, 8, 8),
        "zero_empty_prompt": True,
    }


def _sd3(seed: int) -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel

    with seeded(seed, "transformer"):
        # Both of what medium of 3.5 has besides.
        transformer = SD3Transformer2DModel(
            sample_size=8, num_layers=3, attention_head_dim=64, num_attention_heads=1,
            joint_attention_dim=224, caption_projection_dim=64, pooled_projection_dim=64 + 96,
            pos_embed_max_size=12, dual_attention_layers=(0,), qk_norm="rms_norm",
        )  # fmt: skip
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    plain = {"use_quant_conv": False, "use_post_quant_conv": False}
    return {
        "unet": transformer,
        "vae": vae(seed, 1, 16, scaling_factor=1.5305, shift_factor=0.0609, **plain),
        "scheduler_config": flow,
        "latent_shape_CHW": (16, 8, 8),
    }


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
