"""Two text encoders as one, as Stable Diffusion XL and 3 have them, and the one tensor that comes of it.

Axes: B batch, L tokens, M = L + 1 rows, D width of both encoders' states together, P of the pooled embedding.
A packed context has a row a token and, as its last one, the pooled embedding filled up with zeros: guiders,
caches and callers hand on one tensor, as with one encoder, and only a denoiser takes it apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fdlab.errors import UserError


def pack(text_BLD: Tensor, pooled_BP: Tensor) -> Tensor:
    """A context ctx_BMD of tokens and pooled embedding. Raises: UserError where that is the wider."""
    room = text_BLD.shape[2] - pooled_BP.shape[1]
    if room < 0:
        raise UserError(
            f"the text encoders' pooled embedding has width {pooled_BP.shape[1]}, their tokens only"
            f" {text_BLD.shape[2]}; this architecture is not supported."
        )
    return torch.cat([text_BLD, F.pad(pooled_BP, (0, room))[:, None]], dim=1)


def unpack(ctx_BMD: Tensor, pooled_width: int) -> tuple[Tensor, Tensor]:
    """Tokens text_BLD and pooled embedding pooled_BP of a packed context."""
    return ctx_BMD[:, :-1], ctx_BMD[:, -1, :pooled_width]


@dataclass(frozen=True)
class TextPair:
    """Token ids to a packed context: both encoders' last hidden states but one, side by side (Podell et al.
    2023, arXiv 2307.01952, section 2.1), and the pooled embeddings of those that project theirs.

    Both read the same tokens but for what fills a prompt up: the first encoder's tokenizer says which.
    """

    first: Any
    second: Any
    end: int
    """Id of the token at a text's end."""
    pad_2: int
    """Id that fills a prompt up for the second encoder."""
    zero_empty: bool = False
    """Whether the empty prompt is all zeros, as XL was trained."""

    def __call__(self, input_ids_BL: Tensor) -> Tensor:
        """ctx_BMD. Raises: UserError when there are more tokens than an encoder takes."""
        hidden, pooled = [], []
        for encoder, ids_BL in ((self.first, input_ids_BL), (self.second, self.second_ids(input_ids_BL))):
            check_length(encoder, ids_BL)
            output = encoder(ids_BL, output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            if is_projected(encoder):
                pooled.append(output.text_embeds)
        ctx_BMD = pack(torch.cat(hidden, dim=-1), torch.cat(pooled, dim=-1))
        if not self.zero_empty:
            return ctx_BMD
        return ctx_BMD.masked_fill((input_ids_BL[:, 1] == self.end)[:, None, None], 0.0)

    def second_ids(self, input_ids_BL: Tensor) -> Tensor:
        """The same tokens, filled up behind their first end as the second encoder has it."""
        is_end_BL = (input_ids_BL == self.end).long()
        return torch.where(is_end_BL.cumsum(1) > is_end_BL, self.pad_2, input_ids_BL)


def is_projected(encoder: Any) -> bool:
    """Whether a text encoder has a pooled embedding."""
    return hasattr(encoder, "text_projection")


def heard(encoder: Any, in_pair: bool) -> list[Any]:
    """The modules of a text encoder that have a say in what a denoiser is told.

    Of one of a pair that has no pooled embedding: neither the last layer nor the norm behind it.
    """
    if not in_pair or is_projected(encoder):
        return [encoder]
    inner = getattr(encoder, "text_model", encoder)
    return [inner.embeddings, *inner.encoder.layers[:-1]]


def check_length(encoder: Any, input_ids_BL: Tensor) -> None:
    """Raise UserError for more tokens than a text encoder takes."""
    length, limit = input_ids_BL.shape[1], encoder.config.max_position_embeddings
    if length > limit:
        raise UserError(
            f"{length} tokens given; the text encoder takes {limit}: set backbone.max_tokens={limit}."
        )
