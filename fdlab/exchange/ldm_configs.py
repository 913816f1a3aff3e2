"""The configurations that a file in the original layout does not carry, read off its tensors' shapes.

What shapes do not show (heads, activation, scaling of latents) is the same in all models of a kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fdlab.errors import UserError
from fdlab.exchange.single_file import TEXT_OF, UNET, VAE, Kind, SingleFile
from fdlab.models.nano import SCHEDULER

SCALING = 0.18215
"""Of latents, in Stable Diffusion 1 and 2."""
_HEADS, _HEAD_WIDTH = 8, 64
"""Heads of Stable Diffusion 1's denoiser at every width; channels of a head in all else."""
Shapes = Mapping[str, tuple[int, ...]]


def configs(file: SingleFile, kind: Kind, image_size: int, prediction_type: str) -> dict[str, dict[str, Any]]:
    """Part -> what its config.json says: unet, text_encoder, scheduler, and vae where the file has one.

    Raises: UserError for tensors that are no Stable Diffusion's.
    """
    made = {"text_encoder": text_config(file, kind)}
    factor = 8
    if file.below(VAE):
        made["vae"] = vae_config(file, image_size)
        factor = 2 ** (len(made["vae"]["block_out_channels"]) - 1)
    made["unet"] = unet_config(file, kind, image_size // factor)
    made["scheduler"] = {**SCHEDULER, "prediction_type": prediction_type}
    return made


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
    }


def vae_config(file: SingleFile, sample_size: int) -> dict[str, Any]:
    """AutoencoderKL's."""
    shapes = {name.removeprefix(VAE): file.shapes[name] for name in file.below(VAE)}
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    first = "encoder.down.{}.block.0.conv1.weight"
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": sample_size,
        "in_channels": _shape(file, shapes, "encoder.conv_in.weight")[1],
        "out_channels": _shape(file, shapes, "decoder.conv_out.weight")[0],
        "latent_channels": _shape(file, shapes, "post_quant_conv.weight")[0],
        "block_out_channels": [_shape(file, shapes, first.format(level))[0] for level in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "scaling_factor": SCALING,
    }


def text_config(file: SingleFile, kind: Kind) -> dict[str, Any]:
    """CLIPTextModel's. Of OpenCLIP's layers the last is left out: Stable Diffusion 2 reads the one before."""
    shapes = {name.removeprefix(TEXT_OF[kind]): file.shapes[name] for name in file.below(TEXT_OF[kind])}
    if kind == "sd1":
        shapes = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
        embedding, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        blocks, inner = "encoder.layers", "mlp.fc1.weight"
    else:
        embedding, positions = "token_embedding.weight", "positional_embedding"
        blocks, inner = "transformer.resblocks", "mlp.c_fc.weight"
    vocabulary, width = _shape(file, shapes, embedding)
    layers = _count(shapes, re.escape(blocks) + r"\.(\d+)\.")
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _shape(file, shapes, f"{blocks}.0.{inner}")[0],
        "num_hidden_layers": layers if kind == "sd1" else layers - 1,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": _shape(file, shapes, positions)[0],
        "hidden_act": "quick_gelu" if kind == "sd1" else "gelu",
        "projection_dim": width if kind == "sd1" else width // 2,
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
