"""What a denoiser is conditioned on: embeddings of no prompt, the prompt, the prompt with its subjects.

Axes: B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fdlab.errors import UserError, unknown

BASES = ("text", "null")
"""What the subject-augmented prediction can be guided away from."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Embeddings of a batch; `null_BLD` of batch 1 is shared by all, `augmented_BLD` may be absent."""

    null_BLD: Tensor
    text_BLD: Tensor
    augmented_BLD: Tensor | None = None
    _stacked: dict[tuple[str, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.null_BLD.shape[0] == 1:
            object.__setattr__(self, "null_BLD", self.null_BLD.expand_as(self.text_BLD))
        for name in ("null", "augmented"):
            context = getattr(self, f"{name}_BLD")
            if context is not None and context.shape != self.text_BLD.shape:
                shapes = f"{tuple(context.shape)} and {tuple(self.text_BLD.shape)}"
                raise ValueError(f"the {name} and text embeddings have different shapes: {shapes}")

    def __len__(self) -> int:
        return self.text_BLD.shape[0]

    def get(self, name: str) -> Tensor:
        """The embedding called "null", "text" or "augmented"; UserError where there is none."""
        if name not in ("null", "text", "augmented"):
            raise unknown("embedding", name, ("null", "text", "augmented"))
        context: Tensor | None = getattr(self, f"{name}_BLD")
        if context is None:
            raise UserError("this sampler needs subjects, but no subject-augmented embedding was given.")
        return context

    @property
    def subject_token_BL(self) -> Tensor:
        """Marks the tokens at which subjects were fused in: all others are the text's to the last bit."""
        return (self.get("augmented") != self.text_BLD).any(-1)

    def stacked(self, *names: str) -> Tensor:
        """The named embeddings one after the other, (len(names) B, L, D).

        The same tensor at every call, so that a denoiser may keep what it computes from it.
        """
        if names not in self._stacked:
            self._stacked[names] = torch.cat([self.get(name) for name in names])
        return self._stacked[names]

    def repeat(self, num: int) -> Conditioning:
        """Each row `num` times in a row: several images a prompt."""
        return self._map(lambda context: context.repeat_interleave(num, dim=0))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """All embeddings on a device and in a dtype."""
        return self._map(lambda context: context.to(device=device, dtype=dtype))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        augmented_BLD = None if self.augmented_BLD is None else change(self.augmented_BLD)
        return Conditioning(change(self.null_BLD), change(self.text_BLD), augmented_BLD)
