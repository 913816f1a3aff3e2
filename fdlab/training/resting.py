"""What of its frozen weights a training can do without, or take rounded, from one step to the next."""

from __future__ import annotations

import torch

from fdlab.engine.lean import Lean
from fdlab.engine.loop import LoopSettings
from fdlab.engine.precision import lightning_precision
from fdlab.engine.strategies import FSDP
from fdlab.errors import UserError
from fdlab.training.denoising import DenoisingTraining
from fdlab.training.settings import FitSettings
from fdlab.training.source import keeps_references

DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Autocast's precision, by Lightning's name."""


def rounded_to(frozen: str, loop: LoopSettings, device: str) -> torch.dtype | None:
    """What `model.frozen` rounds to; None: to nothing. Raises: UserError where that is asked for, and steps
    are computed in fp32."""
    dtype = DTYPES.get(lightning_precision(loop.precision, device))
    if frozen == "half" and dtype is None:
        here = ", which is 32 here" if loop.precision == "auto" else ""
        raise UserError(
            f"model.frozen=half does not go with trainer.precision={loop.precision}{here}: use bf16 or fp16,"
            " or model.frozen=auto."
        )
    # On a CPU the exact weights lie beside the rounded ones; sharding wants one precision.
    saves = device != "cpu" and loop.strategy != FSDP
    return dtype if frozen == "half" or (frozen == "auto" and saves) else None


def lean_of(module: DenoisingTraining, settings: FitSettings, device: str) -> Lean:
    """How lean the module's frozen weights may be. Raises: UserError as `rounded_to` does."""
    data = settings.data
    needless = {
        "vae": data.cache_latents and not module.decodes,
        "text_encoder": data.cache_text,
        "text_encoder_2": data.cache_text,
        "image_encoder": keeps_references(module, data) or not module.REFERENCES,
    }
    resting = {part for part, is_needless in needless.items() if is_needless}
    return Lean(
        resting=frozenset(resting if module.offload else ()),
        # Encoders of pictures may not bear half precision: latents that are not kept come of all of fp32.
        exact=frozenset(() if data.cache_latents else ("vae",)),
        dtype=rounded_to(module.frozen, settings.loop, device),
    )
