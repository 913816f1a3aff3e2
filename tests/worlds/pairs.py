"""Stable Diffusion XL's and 3's layouts in miniature, and a batch as its trainings take it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from fdlab.data.captions import MARKER
from fdlab.files import write_text
from fdlab.models.backbone import Backbone, save_backbone
from fdlab.models.nano import build_fusion, build_image_encoder, build_text_encoder, build_unet, seeded
from fdlab.pipeline.inputs import tokens
from fdlab.training.text_driven import TDM
from tests.worlds.backbones import tiny_tokenizer

FIRST = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 16, "num_attention_heads": 2}
SECOND = {"hidden_size": 24, "intermediate_size": 32, "projection_dim": 20, "num_attention_heads": 2}
VISION = {**FIRST, "num_hidden_layers": 2, "image_size": 24, "patch_size": 12}
PROMPTS = (f"a woman {MARKER} and a man {MARKER} in a city", f"a man {MARKER} with glasses")


def vae(channels: int, **config: Any) -> Any:
    """A random AutoencoderKL of factor 8."""
    from diffusers import AutoencoderKL

    with seeded(0, "vae"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=64,
            **config,
        )


def encoders(projected: bool, subjects: bool) -> dict[str, Any]:
    """Two text encoders (the first `projected` or not) with their tokenizers, and what an SDM has besides."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer, tokenizer_2 = tiny_tokenizer(max_tokens=77), tiny_tokenizer(max_tokens=77)
    tokenizer_2.pad_token = "!"
    text: list[Any] = []
    for number, (own, config) in enumerate(((tokenizer, FIRST), (tokenizer_2, SECOND))):
        made: Any = build_text_encoder(
            own, {**config, "num_hidden_layers": 3, "max_position_embeddings": 77}, number
        )
        if number or projected:
            with seeded(number, "text"):
                made = CLIPTextModelWithProjection(CLIPTextConfig(**made.config.to_dict()))
        text.append(made)
    return {
        "text_encoder": text[0],
        "text_encoder_2": text[1],
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "image_encoder": build_image_encoder(VISION) if subjects else None,
        "fusion": build_fusion(40, 16) if subjects else None,
    }


def tiny_xl(subjects: bool = False, seed: int = 0) -> Backbone:
    """Stable Diffusion XL in miniature: two text encoders, pooled embedding, size and crop; 64 px."""
    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 40,
        "attention_head_dim": (2, 2, 2),
        "norm_num_groups": 4,
        "time_embedding_dim": None,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 44,
    }
    scheduler = {
        "_class_name": "EulerDiscreteScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon",
        "timestep_spacing": "leading", "steps_offset": 1,
    }  # fmt: skip
    return frozen(
        Backbone(
            name="tiny-xl",
            vae=vae(4, scaling_factor=0.13025),
            unet=build_unet(config, seed),
            scheduler_config=scheduler,
            image_size=64,
            latent_shape_CHW=(4, 8, 8),
            zero_empty_prompt=True,
            **encoders(projected=False, subjects=subjects),
        )
    )


def tiny_sd3(subjects: bool = False, seed: int = 0) -> Backbone:
    """Stable Diffusion 3 in miniature: a transformer of two blocks, two projected text encoders and no T5, a
    VAE of 16 channels with a shift; 64 px."""
    from diffusers import SD3Transformer2DModel

    with seeded(seed, "transformer"):
        transformer = SD3Transformer2DModel(
            sample_size=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=48,
            caption_projection_dim=16,
            pooled_projection_dim=36,
            pos_embed_max_size=12,
        )
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0,
    }  # fmt: skip
    quant = {"use_quant_conv": False, "use_post_quant_conv": False}
    return frozen(
        Backbone(
            name="tiny-sd3",
            vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, **quant),
            unet=transformer,
            scheduler_config=scheduler,
            image_size=64,
            latent_shape_CHW=(16, 8, 8),
            **encoders(projected=True, subjects=subjects),
        )
    )


def frozen(backbone: Backbone) -> Backbone:
    for network in backbone.networks().values():
        network.eval().requires_grad_(False)
    return backbone


def batch(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Two pictures with two subjects and one, as a training gets them."""
    generator = torch.Generator().manual_seed(0)
    ids_BL, subject_BL = tokens(backbone.tokenizer, PROMPTS)
    valid_BN = torch.tensor([[True, True], [True, False]])
    return {
        "latent_BCHW": torch.randn(2, *backbone.latent_shape_CHW, generator=generator),
        "input_ids_BL": ids_BL,
        "subject_token_BL": subject_BL,
        "token_index_BN": torch.tensor([[*row.nonzero().flatten(), 0][:2] for row in subject_BL]),
        "subject_valid_BN": valid_BN,
        "references_BN3HW": torch.randn(2, 2, 3, 24, 24, generator=generator),
        "mask_BNHW": (torch.rand(2, 2, 8, 8, generator=generator) > 0.5).float(),
    }


def plain_context(
    model: Backbone, given: dict[str, torch.Tensor], subjects: bool, prompts: Sequence[str] = PROMPTS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and pooled embedding written out: prompt after prompt, subject after subject, each encoder with
    its own tokenizer."""
    rows, pooled = [], []
    options: dict[str, Any] = {"padding": "max_length", "max_length": 77, "return_tensors": "pt"}
    for row, marked in enumerate(prompts):
        words = marked.replace(f" {MARKER}", "")
        first = model.text_encoder(model.tokenizer(words, **options).input_ids, output_hidden_states=True)
        ids = model.tokenizer_2(words, **options).input_ids
        second = model.text_encoder_2(ids, output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)[0].clone()
        for n, place in enumerate(given["subject_token_BL"][row].nonzero().flatten().tolist()):
            if subjects and given["subject_valid_BN"][row, n]:
                reference = given["references_BN3HW"][row, n][None]
                seen = model.image_encoder(pixel_values=reference).image_embeds
                text[place] = model.fusion.fuse(text[place][None], seen)[0]
        rows.append(text)
        both = [output.text_embeds[0] for output in (first, second) if hasattr(output, "text_embeds")]
        pooled.append(torch.cat(both))
    return torch.stack(rows), torch.stack(pooled)


def plain_tokens(model: Backbone, given: dict[str, torch.Tensor], subjects: bool) -> torch.Tensor:
    """One encoder's tokens written out, subject after subject fused into its own."""
    text = model.text_encoder(given["input_ids_BL"]).last_hidden_state.clone()
    for row in range(len(text) if subjects else 0):
        for n, place in enumerate(given["subject_token_BL"][row].nonzero().flatten().tolist()):
            if given["subject_valid_BN"][row, n]:
                seen = model.image_encoder(pixel_values=given["references_BN3HW"][row, n][None]).image_embeds
                text[row, place] = model.fusion.fuse(text[row, place][None], seen)[0]
    return text


def adam_step(parameter: torch.Tensor, gradient: torch.Tensor, lr: float) -> torch.Tensor:
    """AdamW's first step, weight decay 0.01: both moments corrected are the gradient and its square."""
    return parameter * (1 - lr * 1e-2) - lr * gradient / (gradient.abs() + 1e-8)


def write_run(folder: Path, base: Backbone) -> None:
    """What training a TDM leaves: model/ with other weights than the backbone's, in base/, and the
    configuration."""
    save_backbone(folder / "base", base)
    module = TDM(deepcopy(base), seed=0)
    with torch.no_grad():
        for p in module.trainable_parameters().values():
            p += 0.02
    module.export(folder / "model")
    path = folder / "base"
    write_text(folder / "config.yaml", f"backbone: {{name: x, path: '{path}', image_size: 64}}\n")
