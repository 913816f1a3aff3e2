"""Stable Diffusion at its published sizes, on the meta device: shapes without numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fdlab.models.backbone import Backbone
from fdlab.models.nano import SCHEDULER, build_fusion
from tests.worlds.backbones import tiny_tokenizer

_LEVELS = {
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "block_out_channels": (320, 640, 1280, 1280),
}
UNETS: Mapping[str, Mapping[str, Any]] = {
    "sd1": {**_LEVELS, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        **_LEVELS, "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280), "sample_size": 128, "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip
TRANSFORMER = {
    "sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
}  # fmt: skip
"""Stable Diffusion 3 medium's."""
_L = (768, 3072, 12, 12, "quick_gelu", 768)
_H = (1024, 4096, 23, 16, "gelu", 512)
_G = (1280, 5120, 32, 20, "gelu", 1280)
TEXTS: Mapping[str, Mapping[str, tuple[tuple[Any, ...], bool]]] = {
    "sd1": {"text_encoder": (_L, False)},
    "sd2": {"text_encoder": (_H, False)},
    "sdxl": {"text_encoder": (_L, False), "text_encoder_2": (_G, True)},
    "sd3": {"text_encoder": (_L, True), "text_encoder_2": (_G, True)},
}
"""Widths, layers, heads, activation and projection of each encoder; whether it projects."""
PARAMETERS: Mapping[str, Mapping[str, int]] = {
    "sd1": {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863},
    "sd2": {"unet": 865_910_724, "text_encoder": 340_387_840, "vae": 83_653_863},
    "sdxl": {
        "unet": 2_567_463_684,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "vae": 83_653_863,
    },
    "sd3": {"unet": 2_028_328_000, "text_encoder": 123_650_304, "text_encoder_2": 694_659_840},
}
"""As published."""


def published(kind: str) -> Backbone:
    """A Stable Diffusion with the SDM's fusion and CLIP ViT-L/14's image encoder, on the meta device."""
    from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel

    tokenizer, tokenizer_2 = tiny_tokenizer(max_tokens=77), tiny_tokenizer(max_tokens=77)
    tokenizer_2.pad_token = "!"
    latents = 16 if kind == "sd3" else 4
    config: dict[str, Any] = {"scaling_factor": {"sdxl": 0.13025, "sd3": 1.5305}.get(kind, 0.18215)}
    if kind == "sd3":
        config |= {"shift_factor": 0.0609, "use_quant_conv": False, "use_post_quant_conv": False}
    with torch.device("meta"):
        if kind == "sd3":
            unet: Any = SD3Transformer2DModel(**TRANSFORMER)
        else:
            unet = UNet2DConditionModel(in_channels=4, out_channels=4, layers_per_block=2, **UNETS[kind])
        texts = {part: _text(*said) for part, said in TEXTS[kind].items()}
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=latents,
            sample_size=8 * unet.config.sample_size, **config,
        )  # fmt: skip
        width = sum(encoder.config.hidden_size for encoder in texts.values())
        fusion = build_fusion(width, 768)
        image_encoder = _image_encoder()
    made = Backbone(
        name=kind,
        unet=unet,
        vae=vae,
        fusion=fusion,
        image_encoder=image_encoder,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2 if len(texts) > 1 else None,
        scheduler_config=dict(SCHEDULER),
        image_size=8 * unet.config.sample_size,
        latent_shape_CHW=(latents, unet.config.sample_size, unet.config.sample_size),
        **texts,
    )
    if kind == "sd3":
        name = "FlowMatchEulerDiscreteScheduler"
        made.scheduler_config = {"_class_name": name, "num_train_timesteps": 1000, "shift": 3.0}
        # Whether it is the identity is asked, and meta tensors do not know.
        made.text_encoder.text_projection.weight = torch.nn.Parameter(torch.eye(768))
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    return made


def _text(size: tuple[Any, ...], projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
            "projection_dim")  # fmt: skip
    config = CLIPTextConfig(vocab_size=49408, eos_token_id=2, **dict(zip(keys, size, strict=True)))
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _image_encoder() -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            projection_dim=768,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
        )
    )
