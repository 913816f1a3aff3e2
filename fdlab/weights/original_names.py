"""A UNet's names in the original (LDM) layout, which single files and many LoRA files have.

The original numbers its blocks in one row, a resnet (with its attention) or a change of size each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def original_names(names: Iterable[str], config: Any) -> dict[str, str]:
    """Name of a UNet2DConditionModel's tensor -> its original name, without what begins all of them."""
    num = int(config.layers_per_block)
    attends = ["CrossAttn" in block for block in config.up_block_types]

    def place(match: re.Match[str]) -> str:
        side, block, what, layer = match[1], int(match[2]), match[3], int(match[4])
        if side == "down":
            if what == "downsamplers":
                return f"input_blocks.{(block + 1) * (num + 1)}.0.op"
            return f"input_blocks.{block * (num + 1) + layer + 1}.{int(what == 'attentions')}"
        if what == "upsamplers":
            return f"output_blocks.{block * (num + 1) + num}.{1 + attends[block]}.conv"
        return f"output_blocks.{block * (num + 1) + layer}.{int(what == 'attentions')}"

    renamed = {}
    for name in names:
        new = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(?:\.conv(?=\.))?", place, name)
        new = with_beginning(new, _ENDS)
        if ".transformer_blocks." not in new:
            new = re.sub(r"\.(norm1|conv1|time_emb_proj|norm2|conv2|conv_shortcut)\.", _resnet, new)
        renamed[name] = new
    return renamed


def _resnet(match: re.Match[str]) -> str:
    return f".{_RESNET[match[1]]}."


def with_beginning(name: str, table: Mapping[str, str]) -> str:
    """A name whose beginning is replaced by what a table says of it."""
    for ours, theirs in table.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name
