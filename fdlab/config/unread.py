"""Values that a user gives and a training would pass over without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdlab.config.compose import read
from fdlab.errors import UserError


def refuse(overrides: Sequence[str], cfg: Any) -> None:
    """Raise UserError for a value of the command line that nothing reads as the rest of `cfg` is.

    What a preset holds besides is no one's wish: it is passed over where it does not fit.
    """
    given = {line.key for line in read(overrides)}
    reference, steps = cfg.data.get("reference"), cfg.trainer.max_steps
    if "data.own_share" in given and reference != "mixed":
        raise UserError(
            f"data.own_share={cfg.data.own_share:g}: only data.reference=mixed has one; it is {reference}."
        )
    prior = sorted(key for key in given if key.startswith("data.prior."))
    if prior and not cfg.model.prior_weight:
        raise UserError(
            f"{prior[0]}: only a training with model.prior_weight above 0 looks at class pictures; it is 0."
        )
    lora = sorted(key for key in given if key.startswith("model.lora_") and key != "model.lora_rank")
    if lora and not cfg.model.lora_rank:
        raise UserError(f"{lora[0]}: only a training with model.lora_rank above 0 has matrices; it is 0.")
    if "model.ema_device" in given and cfg.model.ema_device != "same" and not cfg.model.ema_decay:
        raise UserError(
            f"model.ema_device={cfg.model.ema_device}: only a training with model.ema_decay above 0 keeps"
            " averages; it is 0."
        )
    if "model.warmup_steps" in given and cfg.model.warmup_steps > steps:
        raise UserError(
            f"model.warmup_steps={cfg.model.warmup_steps}: the training ends after {steps}"
            f" (trainer.max_steps), before model.lr is reached; give 0 to {steps}."
        )
