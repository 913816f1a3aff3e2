"""A denoiser as the samplers and losses know it: (z, t, ctx) -> prediction. Axes: B batch, C channels, H W
grid, L tokens, D width, Q positions of a layer's own grid."""

from __future__ import annotations

import math
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdlab.models.attention import CrossAttentionMaps
from fdlab.models.text_cache import TextCache


class UNetDenoiser:
    """A UNet as a plain function of latents, timestep and text embedding.

    No module: whoever owns the UNet registers, moves and saves it; the denoiser only calls it. Entered
    (`with UNetDenoiser(unet) as denoise:`), it computes the keys and values of each text embedding only once.
    """

    def __init__(self, unet: nn.Module) -> None:
        self.unet = unet
        self._text: TextCache | None = None
        self._maps: CrossAttentionMaps | None = None
        self._entered = False

    def __call__(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> Tensor:
        """What the UNet predicts (noise, or v, as it was trained), of z's shape; `t` is a scalar or one a
        row."""
        if self._entered and self._text is not None:
            self._text.use(ctx_BLD)
        t_B = torch.as_tensor(t, device=z_BCHW.device).expand(z_BCHW.shape[0])
        return self.unet(z_BCHW, t_B, encoder_hidden_states=ctx_BLD, return_dict=False)[0]

    def attend(self, z_BCHW: Tensor, t: Tensor | int, ctx_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, and attention_BLHW: cross-attention of the middle five blocks on z's grid, mean of
        heads and layers."""
        self._maps = self._maps or CrossAttentionMaps(self.unet)
        with self._maps as maps:
            output_BCHW = self(z_BCHW, t, ctx_BLD)
            resized = [_on_grid(probs_BHQL, *z_BCHW.shape[-2:]) for probs_BHQL in maps]
        return output_BCHW, torch.stack(resized).mean(0)

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


def _on_grid(probs_BHQL: Tensor, height: int, width: int) -> Tensor:
    """Mean over heads, laid out on its grid and resized: BLHW."""
    maps_BLQ = probs_BHQL.mean(1).transpose(1, 2)
    rows = round(math.sqrt(maps_BLQ.shape[-1] * height / width))
    own_BLHW = maps_BLQ.unflatten(-1, (rows, -1))
    return F.interpolate(own_BLHW, (height, width), mode="bilinear", antialias=True)
