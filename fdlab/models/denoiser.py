"""A denoiser as the samplers and losses know it: (z, t, ctx) -> prediction. Axes: B batch, C channels, H W
grid, L tokens, D width, Q positions of a layer's own grid."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab.models.attention import CrossAttentionMaps
from fdlab.models.text_cache import TextCache
from fdlab.models.text_pair import unpack

XL_FACTOR = 8
"""Pixels a latent of Stable Diffusion XL, along one side."""


class UNetDenoiser:
    """A UNet as a plain function of latents, timestep and text embedding.

    No module: whoever owns the UNet registers, moves and saves it; the denoiser only calls it. Entered
    (`with UNetDenoiser(unet) as denoise:`), it computes the keys and values of each text embedding only once.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self._text: TextCache | None = None
        self._maps: CrossAttentionMaps | None = None
        self._entered = False

    def __call__(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> Tensor:
        """What the UNet predicts (noise, or v, as it was trained), of z's shape; `t` is a scalar or one a
        row."""
        if self._entered and self._text is not None:
            self._text.use(ctx_BLD, self.tokens)
        t_B = torch.as_tensor(t, device=z_BCHW.device).expand(z_BCHW.shape[0])
        told = self.told_besides(z_BCHW, ctx_BLD)
        text_BLD = self.tokens(ctx_BLD)
        return self.unet(z_BCHW, t_B, encoder_hidden_states=text_BLD, return_dict=False, **told)[0]

    def tokens(self, ctx_BLD: Tensor) -> Tensor:
        """What of a context the UNet attends to."""
        return ctx_BLD

    def told_besides(self, z_BCHW: Tensor, ctx_BLD: Tensor) -> dict[str, Any]:
        """Further arguments of the UNet."""
        return {}

    def attend(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, and attention_BLHW: cross-attention of the middle five blocks on z's grid, mean of
        heads and layers."""
        self._maps = self._maps or CrossAttentionMaps(self.unet)
        with self._maps as maps:
            output_BCHW = self(z_BCHW, t, ctx_BLD)
            resized = [_on_grid(probs_BHQL, *z_BCHW.shape[-2:]) for probs_BHQL in maps]
        attention_BLHW = torch.stack(resized).mean(0)
        # Rows of a context that are no tokens are looked at by nothing.
        rest = ctx_BLD.shape[1] - attention_BLHW.shape[1]
        return output_BCHW, F.pad(attention_BLHW, (0, 0, 0, 0, 0, rest))

    def __enter__(self) -> UNetDenoiser:
        self._text = self._text or TextCache(self.unet)
        self._text.__enter__()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._text is not None
        self._entered = False
        self._text.__exit__(kind, value, trace)


class XLDenoiser(UNetDenoiser):
    """Stable Diffusion XL's UNet, on packed contexts: it is told the pooled embedding, and a picture's size.

    Size and crop (micro-conditioning; Podell et al. 2023, arXiv 2307.01952, section 2.2) are those of a
    picture that was never scaled nor cut, in training as in sampling: data folders do not keep others.
    """

    def tokens(self, ctx_BLD: Tensor) -> Tensor:
        """All but the pooled row."""
        return ctx_BLD[:, :-1]

    def told_besides(self, z_BCHW: Tensor, ctx_BLD: Tensor) -> dict[str, Any]:
        """Pooled embedding, and height, width, top, left, height, width in pixels."""
        height, width = (XL_FACTOR * side for side in z_BCHW.shape[-2:])
        size_6 = torch.tensor([height, width, 0, 0, height, width], dtype=ctx_BLD.dtype, device=z_BCHW.device)
        _, pooled_BP = unpack(ctx_BLD, xl_pooled_width(self.unet.config))
        told = {"text_embeds": pooled_BP, "time_ids": size_6.expand(len(ctx_BLD), -1)}
        return {"added_cond_kwargs": told}


def is_xl(config: Any) -> bool:
    """Whether a UNet's config is of Stable Diffusion XL's kind."""
    return config.get("addition_embed_type") == "text_time"


def xl_pooled_width(config: Any) -> int:
    """Width of the pooled embedding that XL's UNet takes beside its six numbers."""
    return int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])


def denoiser_of(unet: Any) -> UNetDenoiser:
    """The denoiser for a network, by its architecture."""
    return XLDenoiser(unet) if is_xl(getattr(unet, "config", {})) else UNetDenoiser(unet)


def _on_grid(probs_BHQL: Tensor, height: int, width: int) -> Tensor:
    """Mean over heads, laid out on its grid and resized: BLHW."""
    maps_BLQ = probs_BHQL.mean(1).transpose(1, 2)
    rows = round(math.sqrt(maps_BLQ.shape[-1] * height / width))
    own_BLHW = maps_BLQ.unflatten(-1, (rows, -1))
    return F.interpolate(own_BLHW, (height, width), mode="bilinear", antialias=True)
