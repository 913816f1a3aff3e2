"""One model as a guider sees it: a denoiser together with the embeddings made for it.

Axes: B batch, C latent channels, H W latent grid, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from fdlab.diffusion.conditioning import Conditioning
from fdlab.diffusion.guidance import Guidance
from fdlab.diffusion.precision import at_least_float32
from fdlab.errors import UserError

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z_BCHW, t scalar, ctx_BLD) -> eps, v or a velocity, (B, C, H, W)."""


@runtime_checkable
class Attentive(Protocol):
    """A denoiser that can tell where it looked."""

    def attend(self, z_BCHW: Tensor, t: Tensor, ctx_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, and attention_BLHW: how much each place looks at each token, 0 or more."""


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
        output = self.denoiser(*self._inputs(z_BCHW, t, names))
        return at_least_float32(output).chunk(len(names))

    def attending(self, z_BCHW: Tensor, t: Tensor, *names: str) -> tuple[tuple[Tensor, ...], Tensor]:
        """`predict`, and looks_B1HW: the last name's attention to its subjects.

        Each subject's map is scaled to [0, 1] over the picture, then the largest taken. Raises: UserError for
        a denoiser that cannot tell its attention.
        """
        if not isinstance(self.denoiser, Attentive):
            raise UserError("this guider needs cross-attention maps, which this denoiser does not give.")
        output, attention_BLHW = self.denoiser.attend(*self._inputs(z_BCHW, t, names))
        maps_BLHW = at_least_float32(attention_BLHW.chunk(len(names))[-1])
        low_BL11, high_BL11 = maps_BLHW.amin((2, 3), keepdim=True), maps_BLHW.amax((2, 3), keepdim=True)
        scaled_BLHW = (maps_BLHW - low_BL11) / (high_BL11 - low_BL11).clamp_min(1e-12)
        looks_B1HW = (scaled_BLHW * self.conditioning.subject_token_BL[..., None, None]).amax(1, keepdim=True)
        return at_least_float32(output).chunk(len(names)), looks_B1HW

    def guided(self, z_BCHW: Tensor, t: Tensor, base: str, target: str, guidance: Guidance) -> Tensor:
        """The prediction under `target`, guided away from `base`, which is computed only if it has weight."""
        if not guidance.needs_base:
            return self.predict(z_BCHW, t, target)[0]
        return guidance(*self.predict(z_BCHW, t, base, target))

    def _inputs(self, z_BCHW: Tensor, t: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.conditioning) != len(z_BCHW):
            raise ValueError(f"{len(z_BCHW)} latents, but embeddings for {len(self.conditioning)}")
        ctx_BLD = self.conditioning.stacked(*names)
        return z_BCHW.to(ctx_BLD.dtype).repeat(len(names), 1, 1, 1), t, ctx_BLD
