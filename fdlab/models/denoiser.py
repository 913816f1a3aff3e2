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
T5_TOKENS = 256
"""Rows of Stable Diffusion 3's third text encoder."""


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
        output: Tensor = self.unet(z_BCHW, t_B, encoder_hidden_states=text_BLD, return_dict=False, **told)[0]
        return output

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
        _, pooled_BP = unpack(ctx_BLD, pooled_width(self.unet.config))
        told = {"text_embeds": pooled_BP, "time_ids": size_6.expand(len(ctx_BLD), -1)}
        return {"added_cond_kwargs": told}


class TransformerDenoiser:
    """Stable Diffusion 3's transformer as the same function of latents, timestep and packed context.

    It has no cross-attention, so it cannot tell where it looked, and keeps nothing of a text between steps.
    The rows of its third text encoder are zeros, as diffusers has them where that is left out.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet

    def __call__(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> Tensor:
        """The velocity that the transformer predicts, of z's shape; `t` is a scalar or one a row."""
        text_BLD, pooled_BP = unpack(ctx_BLD, pooled_width(self.unet.config))
        room = self.unet.config["joint_attention_dim"] - text_BLD.shape[2]
        t_B = torch.as_tensor(t, device=z_BCHW.device).expand(z_BCHW.shape[0])
        output_BCHW: Tensor = self.unet(
            z_BCHW,
            encoder_hidden_states=F.pad(text_BLD, (0, room, 0, T5_TOKENS)),
            pooled_projections=pooled_BP,
            timestep=t_B,
            return_dict=False,
        )[0]
        return output_BCHW

    def __enter__(self) -> TransformerDenoiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def is_transformer(config: Any) -> bool:
    """Whether a denoiser's config is of Stable Diffusion 3's kind."""
    return "joint_attention_dim" in config


def is_xl(config: Any) -> bool:
    """Whether a denoiser's config is of Stable Diffusion XL's kind."""
    return config.get("addition_embed_type") == "text_time"


def pooled_width(config: Any) -> int:
    """Width of the pooled embedding that a denoiser takes: XL's beside its six numbers; 0 where it takes
    none."""
    if is_transformer(config):
        return int(config["pooled_projection_dim"])
    if not is_xl(config):
        return 0
    return int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])


def grid_step(config: Any) -> int:
    """Latents that a side must be a multiple of: halved at every level, or cut into patches."""
    widths = config.get("block_out_channels")
    return 2 ** (len(widths) - 1) if widths else int(config.get("patch_size") or 1)


def denoiser_of(unet: Any) -> UNetDenoiser | TransformerDenoiser:
    """The denoiser for a network, by its architecture."""
    config = getattr(unet, "config", {})
    if is_transformer(config):
        return TransformerDenoiser(unet)
    return XLDenoiser(unet) if is_xl(config) else UNetDenoiser(unet)


def _on_grid(probs_BHQL: Tensor, height: int, width: int) -> Tensor:
    """Mean over heads, laid out on its grid and resized: BLHW."""
    maps_BLQ = probs_BHQL.mean(1).transpose(1, 2)
    rows = round(math.sqrt(maps_BLQ.shape[-1] * height / width))
    own_BLHW = maps_BLQ.unflatten(-1, (rows, -1))
    return F.interpolate(own_BLHW, (height, width), mode="bilinear", antialias=True)
