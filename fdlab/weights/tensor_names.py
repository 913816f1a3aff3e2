"""Names of the same tensors through the years: what checkpoints on disk say, and what today's modules
expect."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

TEXT_LEVEL = "text_model."
"""A level of the text encoder's names that comes and goes between versions of transformers."""

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))$")
_NEW = re.compile(r"(attentions\.\d+\.)(to_q|to_k|to_v|to_out\.0)(\.(?:weight|bias))$")
_BACK = {new: old for old, new in _OLD_ATTENTION.items()}


def modern(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors to the names a module of today expects; what needs no renaming stays.

    `position_ids` goes (it is 0, 1, 2, ...), unless expected; the text encoder gains or loses its
    `text_model.` level; the autoencoder's attention gets its new names; of a whole CLIP model only the tower
    that is expected stays.
    """
    has_level = any(name.startswith(TEXT_LEVEL) for name in expected)
    towers = ("vision_model.", "visual_projection.")
    vision_only = any(name.startswith(towers[0]) for name in expected)
    renamed = {}
    for name, tensor in state.items():
        new = _OLD.sub(lambda match: match[1] + _OLD_ATTENTION[match[2]] + match[3], name)
        if vision_only and not new.startswith(towers):
            continue
        if not has_level:
            new = new.removeprefix(TEXT_LEVEL)
        elif not new.startswith(TEXT_LEVEL) and TEXT_LEVEL + new in expected:
            new = TEXT_LEVEL + new
        if new.endswith("position_ids") and new not in expected:
            continue
        renamed[new] = tensor
    return renamed


def old_attention(name: str) -> str:
    """An autoencoder's tensor under the name it had when Face-diffuser was released."""
    return _NEW.sub(lambda match: match[1] + _BACK[match[2]] + match[3], name)
