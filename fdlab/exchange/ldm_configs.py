"""The configurations that a file in the original layout does not carry, read off its tensors' shapes.

What shapes do not show (heads, activation, scaling of latents) is the same in all models of a kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from typing import Any

from fdlab.diffusion.flow import FLOW
from fdlab.diffusion.schedulers import at_zero_snr
from fdlab.errors import UserError
from fdlab.exchange.single_file import OPENCLIP, TEXTS, UNET, VAE, Kind, SingleFile
from fdlab.models.nano import SCHEDULER

SCALING: Mapping[Kind, Mapping[str, float]] = {
    "sd1": {"scaling_factor": 0.18215},
    "sd2": {"scaling_factor": 0.18215},
    "sdxl": {"scaling_factor": 0.13025},
    "sd3": {"scaling_factor": 1.5305, "shift_factor": 0.0609},
}
"""Of latents."""
XL_SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
"""What differs from Stable Diffusion's."""
FLOW_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 3.0,
}
ZERO_SNR_MARK = "ztsnr"
"""An empty tensor by which a file says that its last timestep is noise alone."""
_SIZE_NUMBERS = 6
"""That Stable Diffusion XL is told beside the pooled embedding: sizes and crop."""
_HEADS, _HEAD_WIDTH = 8, 64
"""Heads of Stable Diffusion 1's denoiser at every width; channels of a head in all else."""
_PLAIN, _PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
TEXT_CLASSES: Mapping[Kind, Mapping[str, str]] = {
    "sd1": {"text_encoder": _PLAIN},
    "sd2": {"text_encoder": _PLAIN},
    "sdxl": {"text_encoder": _PLAIN, "text_encoder_2": _PROJECTED},
    "sd3": {"text_encoder": _PROJECTED, "text_encoder_2": _PROJECTED},
}
Shapes = Mapping[str, tuple[int, ...]]


def configs(file: SingleFile, kind: Kind, image_size: int, prediction_type: str) -> dict[str, dict[str, Any]]:
    """Part -> what its config.json says: unet, text encoders, scheduler, and vae where the file has one.

    Raises: UserError for tensors that are no Stable Diffusion's.
    """
    made = {part: text_config(file, kind, part) for part in TEXTS[kind]}
    factor = 8
    if file.below(VAE):
        made["vae"] = vae_config(file, kind, image_size)
        factor = 2 ** (len(made["vae"]["block_out_channels"]) - 1)
    if kind == "sd3":
        made["unet"] = transformer_config(file, image_size // factor)
    else:
        made["unet"] = unet_config(file, kind, image_size // factor)
    if kind == "sdxl":
        made["unet"] |= _told_besides(file, made["text_encoder_2"]["projection_dim"])
    made["scheduler"] = scheduler_config(file, kind, prediction_type)
    return made


def scheduler_config(file: SingleFile, kind: Kind, prediction_type: str) -> dict[str, Any]:
    """The scheduler's, as models of a kind are published with it."""
    if prediction_type == FLOW:
        return dict(FLOW_SCHEDULER)
    made = {**SCHEDULER, **(XL_SCHEDULER if kind == "sdxl" else {}), "prediction_type": prediction_type}
    return at_zero_snr(made) if ZERO_SNR_MARK in file.shapes else made


def unet_config(file: SingleFile, kind: Kind, sample_size: int) -> dict[str, Any]:
    """UNet2DConditionModel's: levels end where the original has a downsampling (`op`)."""
    shapes = {name.removeprefix(UNET): file.shapes[name] for name in file.below(UNET)}
    levels: list[list[tuple[int, bool]]] = [[]]
    for block in range(1, _count(shapes, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            levels.append([])
            continue
        width = _shape(file, shapes, f"input_blocks.{block}.0.in_layers.2.weight")[0]
        levels[-1].append((width, f"input_blocks.{block}.1.proj_in.weight" in shapes))
    widths, attends = [level[0][0] for level in levels if level], [level[0][1] for level in levels if level]
    if len(widths) < len(levels) or any(len(level) != len(levels[0]) for level in levels):
        raise UserError(f"'{file.path}': its denoiser's levels are not as Stable Diffusion's.")
    depths = _depths(shapes, attends, len(levels[0]))
    # Any level that attends to the text shows how wide that is.
    keys = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    projections = [shapes[name] for name in shapes if name.endswith(".proj_in.weight")]
    if not keys or not projections:
        raise UserError(f"'{file.path}': its denoiser attends to no text.")
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": sample_size,
        "in_channels": _shape(file, shapes, "input_blocks.0.0.weight")[1],
        "out_channels": _shape(file, shapes, "out.2.weight")[0],
        "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)],
        "block_out_channels": widths,
        "layers_per_block": len(levels[0]),
        "cross_attention_dim": shapes[keys[0]][1],
        # In UNet2DConditionModel this is the number of heads, whatever its name.
        "attention_head_dim": _HEADS if kind == "sd1" else [width // _HEAD_WIDTH for width in widths],
        "use_linear_projection": len(projections[0]) == 2,
        **({"transformer_layers_per_block": depths} if set(depths) != {1} else {}),
    }


def _depths(shapes: Shapes, attends: list[bool], num: int) -> list[int]:
    """Transformer blocks of an attention at every level; the last level's is also the middle's."""
    blocks = r"\.1\.transformer_blocks\.(\d+)\."
    depths = [
        _count(shapes, rf"input_blocks\.{level * (num + 1) + 1}{blocks}") if attention else 1
        for level, attention in enumerate(attends)
    ]
    return depths if attends[-1] else [*depths[:-1], _count(shapes, rf"middle_block{blocks}")]


def _told_besides(file: SingleFile, pooled: int) -> dict[str, Any]:
    """Of Stable Diffusion XL's UNet: how it takes the pooled embedding, and a picture's sizes."""
    shapes = {name.removeprefix(UNET): file.shapes[name] for name in file.below(f"{UNET}label_emb.")}
    taken = _shape(file, shapes, "label_emb.0.0.weight")[1]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (taken - pooled) // _SIZE_NUMBERS,
        "projection_class_embeddings_input_dim": taken,
    }


def transformer_config(file: SingleFile, sample_size: int) -> dict[str, Any]:
    """SD3Transformer2DModel's; what medium of 3.5 has besides is seen in names."""
    shapes = {name.removeprefix(UNET): file.shapes[name] for name in file.below(UNET)}
    patches = _shape(file, shapes, "x_embedder.proj.weight")
    width, patch = patches[0], max(1, patches[-1])
    context = _shape(file, shapes, "context_embedder.weight")
    dual = [int(m[1]) for name in shapes if (m := re.match(r"joint_blocks\.(\d+)\.x_block\.attn2\.", name))]
    normed = any(name.endswith(".ln_q.weight") for name in shapes)
    return {
        "_class_name": "SD3Transformer2DModel",
        "sample_size": sample_size,
        "patch_size": patch,
        "in_channels": patches[1],
        "out_channels": _shape(file, shapes, "final_layer.linear.weight")[0] // patch**2,
        "num_layers": _count(shapes, r"joint_blocks\.(\d+)\."),
        "attention_head_dim": _HEAD_WIDTH,
        "num_attention_heads": width // _HEAD_WIDTH,
        "joint_attention_dim": context[1],
        "caption_projection_dim": context[0],
        "pooled_projection_dim": _shape(file, shapes, "y_embedder.mlp.0.weight")[1],
        "pos_embed_max_size": isqrt(_shape(file, shapes, "pos_embed")[1]),
        **({"qk_norm": "rms_norm"} if normed else {}),
        **({"dual_attention_layers": sorted(set(dual))} if dual else {}),
    }


def vae_config(file: SingleFile, kind: Kind, sample_size: int) -> dict[str, Any]:
    """AutoencoderKL's."""
    shapes = {name.removeprefix(VAE): file.shapes[name] for name in file.below(VAE)}
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    first = "encoder.down.{}.block.0.conv1.weight"
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": sample_size,
        "in_channels": _shape(file, shapes, "encoder.conv_in.weight")[1],
        "out_channels": _shape(file, shapes, "decoder.conv_out.weight")[0],
        "latent_channels": _shape(file, shapes, "decoder.conv_in.weight")[1],
        "block_out_channels": [_shape(file, shapes, first.format(level))[0] for level in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        **({} if "quant_conv.weight" in shapes else {"use_quant_conv": False, "use_post_quant_conv": False}),
        **SCALING[kind],
    }


def text_config(file: SingleFile, kind: Kind, part: str) -> dict[str, Any]:
    """A text encoder's. Stable Diffusion 2 leaves out OpenCLIP's last layer: it reads the one before."""
    prefix = TEXTS[kind][part]
    shapes = {name.removeprefix(prefix): file.shapes[name] for name in file.below(prefix)}
    if prefix.endswith(OPENCLIP):
        embedding, positions = "token_embedding.weight", "positional_embedding"
        blocks, inner = "transformer.resblocks", "mlp.c_fc.weight"
    else:
        shapes = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
        embedding, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        blocks, inner = "encoder.layers", "mlp.fc1.weight"
    vocabulary, width = _shape(file, shapes, embedding)
    is_openai = part == "text_encoder" and kind != "sd2"
    # OpenCLIP's projection lies the other way round than transformers'.
    pooled = shapes.get("text_projection", (0, width))[1]
    projected = shapes.get("text_projection.weight", (pooled,))[0]
    return {
        "architectures": [TEXT_CLASSES[kind][part]],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(file, shapes, f"{blocks}.0.{inner}")[0],
        "num_hidden_layers": _count(shapes, re.escape(blocks) + r"\.(\d+)\.") - (kind == "sd2"),
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": _shape(file, shapes, positions)[0],
        "hidden_act": "quick_gelu" if is_openai else "gelu",
        "projection_dim": width // 2 if kind == "sd2" else width if is_openai else projected,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the highest number that names show at a place."""
    found = [int(match[1]) for name in shapes if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _shape(file: SingleFile, shapes: Shapes, name: str) -> tuple[int, ...]:
    if len(shapes.get(name, ())) < 2:
        raise UserError(f"'{file.path}' is no whole Stable Diffusion: it lacks tensor '{name}'.")
    return shapes[name]
