"""One model as a guider sees it: a denoiser together with the embeddings made for it.

Axes: B batch, C latent channels, H W latent grid, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fdlab.diffusion.conditioning import BASES, Conditioning
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.precision import at_least_float32
from fdlab.errors import unknown

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z_BCHW, t scalar, ctx_BLD) -> eps or v, (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Model:
    """A denoiser and its conditioning; TDM and SDM differ in both, as the fusion belongs to the SDM."""

    denoiser: Denoiser
    conditioning: Conditioning

    def predict(self, z_BCHW: Tensor, t: Tensor, *names: str) -> tuple[Tensor, ...]:
        """Predictions under the named embeddings, the batch in one call of the denoiser; float32 at least.

        Latents enter in the embeddings' dtype: a sampler may keep them in float32 while the model runs in
        bfloat16.
        """
        if len(self.conditioning) != len(z_BCHW):
            raise ValueError(f"{len(z_BCHW)} latents, but embeddings for {len(self.conditioning)}")
        contexts = torch.cat([self.conditioning.get(name) for name in names])
        output = self.denoiser(z_BCHW.to(contexts.dtype).repeat(len(names), 1, 1, 1), t, contexts)
        return at_least_float32(output).chunk(len(names))

    def guided(self, z_BCHW: Tensor, t: Tensor, base: str, target: str, guidance: Guidance) -> Tensor:
        """The prediction under `target`, guided away from `base`, which is computed only if it has weight."""
        if not guidance.needs_base:
            return self.predict(z_BCHW, t, target)[0]
        return guidance(*self.predict(z_BCHW, t, base, target))


def check_base(base: str) -> str:
    """Return `base`, or raise UserError if it is not "text" or "null"."""
    if base not in BASES:
        raise unknown("base of the subject guidance", str(base), BASES)
    return base
