"""What a user gives and nothing reads is refused; what a preset brings along is not."""

from __future__ import annotations

import pytest

from fdlab.config import unread
from fdlab.config.compose import compose
from fdlab.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.own_share=0.7", "data.reference=own"], "data.own_share=0.7: only data.reference=mixed"),
        (["model.warmup_steps=7", "trainer.max_steps=5"], "model.warmup_steps=7: the training ends after 5"),
        (["model.lora_alpha=4"], "model.lora_alpha: only a training with model.lora_rank above 0"),
        (
            ["model.ema_device=cpu", "model.ema_decay=0"],
            "model.ema_device=cpu: only a training with model.ema_d",
        ),
        (["model.ema_device=same", "model.ema_decay=0"], ""),
        (["model.lora_alpha=4", "model.lora_rank=2"], ""),
        (["data.own_share=0.7", "data.reference=mixed"], ""),
        (["model.warmup_steps=5", "trainer.max_steps=5"], ""),
        # The preset warms up for ten steps and has a share.
        (["data.reference=own", "trainer.max_steps=5"], ""),
    ],
)
def test_a_value_that_nothing_reads(overrides: list[str], said: str) -> None:
    cfg = compose(["+exp=sdm", *overrides])
    if not said:
        unread.refuse(overrides, cfg)
        return
    with pytest.raises(UserError, match=said):
        unread.refuse(overrides, cfg)
