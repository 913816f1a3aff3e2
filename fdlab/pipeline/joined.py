"""What a TDM and an SDM share, for one pipeline of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fdlab.diffusion.flow import predicts
from fdlab.diffusion.schedulers import make_scheduler, usual
from fdlab.errors import UserError
from fdlab.models.backbone import Backbone

ENCODERS = (
    "text_encoder",
    "text_encoder_2",
    "image_encoder",
    "fusion",
    "tokenizer",
    "tokenizer_2",
)
"""From prompts and subjects to embeddings."""
TEXT = ("text_encoder", "text_encoder_2")


def joined(tdm: Backbone | None, sdm: Backbone | None, scheduler: Any) -> dict[str, Any]:
    """A pipeline's parts, by the names of its parameters; what both have, from the SDM, but for text encoders
    of the TDM's own.

    Raises: UserError where neither model is given, or the two predict different things.
    """
    both = [model for model in (sdm, tdm) if model is not None]
    if not both:
        raise UserError("a pipeline needs a TDM or an SDM; neither was given.")
    configs = [model.need("scheduler") for model in both]
    kinds = {predicts(config) for config in configs}
    if len(kinds) > 1:
        raise UserError(
            f"TDM and SDM predict different things ({', '.join(sorted(kinds))}); they cannot be fused."
        )
    return {
        "tdm_unet": tdm.need("unet") if tdm else None,
        "sdm_unet": sdm.need("unet") if sdm else None,
        "scheduler": scheduler or make_scheduler(usual(configs[0]), configs[0]),
        "zero_empty_prompt": both[0].zero_empty_prompt,
        **{name: _first(both, name) for name in ("vae", *ENCODERS)},
        **{f"tdm_{name}": _differing(tdm, sdm, name) for name in TEXT},
    }


def _differing(tdm: Backbone | None, sdm: Backbone | None, name: str) -> Any:
    """The TDM's text encoder, where the SDM has another; None: they share it."""
    own, other = getattr(tdm, name, None), getattr(sdm, name, None)
    if own is None or other is None or own is other:
        return None
    states = own.state_dict(), other.state_dict()
    same = states[0].keys() == states[1].keys()
    return None if same and all(torch.equal(states[1][key], t) for key, t in states[0].items()) else own


def _first(models: Sequence[Backbone], name: str) -> Any:
    return next((part for model in models if (part := getattr(model, name)) is not None), None)
