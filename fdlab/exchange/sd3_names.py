"""Names in the original layout of Stable Diffusion 3's transformer: the way out.

A joint block holds the picture's side (x_block) and the text's (context_block); query, key and value are one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fdlab.exchange.single_file import UNET

_ENDS = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_BLOCK = {
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_JOINED = {
    "attn.to_q": ("x_block.attn.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    "attn.add_q_proj": ("context_block.attn.qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    "attn2.to_q": ("x_block.attn2.qkv", ("attn2.to_q", "attn2.to_k", "attn2.to_v")),
}
"""The first of three layers -> the name of all in one, and the three."""
_IN_ANOTHER = {layer for _, three in _JOINED.values() for layer in three[1:]}


def transformer_state(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The transformer's tensors by their original names."""
    last, renamed = int(config.num_layers) - 1, dict[str, Tensor]()
    for name, tensor in state.items():
        match = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            layer, _, end = name.rpartition(".")
            new = _ENDS[name] if name in _ENDS else f"{_ENDS[layer]}.{end}"
            renamed[UNET + new] = _swapped(tensor) if layer == "norm_out.linear" else tensor
            continue
        block, layer, end = f"transformer_blocks.{match[1]}", match[2], match[3]
        original = f"{UNET}joint_blocks.{match[1]}"
        if layer in _JOINED:
            joined, three = _JOINED[layer]
            renamed[f"{original}.{joined}.{end}"] = torch.cat([state[f"{block}.{n}.{end}"] for n in three])
        elif layer not in _IN_ANOTHER:
            # The text's last modulation has no gates: diffusers makes it a norm like the final one.
            is_last = layer == "norm1_context.linear" and int(match[1]) == last
            renamed[f"{original}.{_BLOCK[layer]}.{end}"] = _swapped(tensor) if is_last else tensor
    return renamed


def _swapped(tensor: Tensor) -> Tensor:
    """Shift and scale of a norm, which diffusers has in the other order."""
    scale, shift = tensor.chunk(2)
    return torch.cat([shift, scale])
