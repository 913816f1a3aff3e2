"""Keys and values of the text, computed once for all steps: they depend on the prompt alone.

Axes: B batch, H heads, Q positions of the latent grid, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXTS = 8
"""Embeddings whose keys and values are kept; a sampler uses two a model."""


class KeptText:
    """An attention processor with keys and values handed in; the result is AttnProcessor2_0's."""

    def __init__(self) -> None:
        self.k_BHLD: Tensor | None = None
        self.v_BHLD: Tensor | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        assert self.k_BHLD is not None and self.v_BHLD is not None
        q_BHQD = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        y_BHQD = F.scaled_dot_product_attention(q_BHQD, self.k_BHLD, self.v_BHLD, scale=attn.scale)
        y_BQD = attn.to_out[1](attn.to_out[0](y_BHQD.transpose(1, 2).flatten(2)))
        if attn.residual_connection:
            y_BQD = y_BQD + hidden_states
        return y_BQD / attn.rescale_output_factor


class TextCache:
    """Keep the text's keys and values of a UNet's cross-attentions while it samples.

        with TextCache(unet) as text:
            text.use(ctx_BLD)  # computed at the first time that this very tensor is used
            eps_BCHW = unet(z_BCHW, t, ctx_BLD)

    Layers with processors of their own, or norms of the text, are left as they are. What it kept is dropped
    on leaving; it may be entered again, with the same processors, so that a compiled UNet stays compiled.
    """

    def __init__(self, unet: nn.Module) -> None:
        self._layers: list[tuple[Any, KeptText]] = [
            (attn, KeptText()) for attn in unet.modules() if _plain_cross_attention(attn)
        ]
        self._before: list[Any] = []
        self._kept: list[tuple[Tensor, list[tuple[Tensor, Tensor]]]] = []

    def __enter__(self) -> TextCache:
        if self._before:
            raise RuntimeError("TextCache is already in use; leave it first.")
        self._before = [attn.processor for attn, _ in self._layers]
        for attn, processor in self._layers:
            attn.set_processor(processor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (attn, processor), before in zip(self._layers, self._before, strict=True):
            attn.set_processor(before)
            processor.k_BHLD = processor.v_BHLD = None
        self._before, self._kept = [], []

    def __len__(self) -> int:
        return len(self._layers)

    @torch.no_grad()
    def use(self, ctx_BLD: Tensor, tokens: Callable[[Tensor], Tensor] = lambda ctx_BLD: ctx_BLD) -> None:
        """Make the next calls of the UNet attend to these embeddings, or to what `tokens` takes of them."""
        found = next((made for kept, made in self._kept if kept is ctx_BLD), None)
        if found is None:
            found = [_keys_and_values(attn, tokens(ctx_BLD)) for attn, _ in self._layers]
            self._kept = [*self._kept[1 - CONTEXTS :], (ctx_BLD, found)]
        for (_, processor), (k_BHLD, v_BHLD) in zip(self._layers, found, strict=True):
            processor.k_BHLD, processor.v_BHLD = k_BHLD, v_BHLD


def _keys_and_values(attn: Any, ctx_BLD: Tensor) -> tuple[Tensor, Tensor]:
    k_BHLD, v_BHLD = (
        y_BLD.unflatten(-1, (attn.heads, -1)).transpose(1, 2).contiguous()
        for y_BLD in (attn.to_k(ctx_BLD), attn.to_v(ctx_BLD))
    )
    return k_BHLD, v_BHLD


def _plain_cross_attention(module: Any) -> bool:
    processor = getattr(module, "processor", None)
    return (
        type(processor) in (AttnProcessor, AttnProcessor2_0)
        and bool(module.is_cross_attention)
        and not module.norm_cross
        and all(
            getattr(module, name, None) is None
            for name in ("spatial_norm", "group_norm", "norm_q", "norm_k", "add_k_proj")
        )
    )
