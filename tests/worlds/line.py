"""A training of five numbers, to try the engine with: a line through points, in milliseconds a step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fdlab.engine.continuing import resume_from
from fdlab.engine.draws import Draws
from fdlab.engine.loop import LoopSettings, run
from fdlab.engine.module import Losses, Optimization, Training
from fdlab.engine.numbered import NumberedPasses

Spoil = Callable[["Line", int, torch.Tensor], torch.Tensor]


class Line(Training):
    """Four weights and an offset. `spoil` may change the loss of forward pass n."""

    def __init__(self, spoil: Spoil | None = None, lr: float = 0.1, optimizer: Any = "adamw") -> None:
        super().__init__(Optimization(optimizer=optimizer, lr=lr, ema_decay=0.9), seed=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Linear(4, 2)
        self.spoil = spoil
        self.start(dict(self.network.named_parameters()))

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        x = draws.normal(8, 4)
        loss = (self.network(x).float() - x[:, :2]).square().mean()
        if self.spoil is not None:
            batch["ids"] = [f"p{batch['number']}"]
            loss = self.spoil(self, int(batch["number"]), loss)
        return {"loss": loss}


def train(folder: Path, module: Line, resume: str = "auto", **settings: Any) -> float:
    """Run the engine on the CPU as `fit` does."""
    chosen = {"max_steps": 6, "accelerator": "cpu", "precision": "32", "checkpoint_every": 2, "log_every": 1}
    made = LoopSettings(**{**chosen, "show": False, **settings})
    return run(module, NumberedPasses(), made, folder, resume_from(module, folder, resume))


def send(number: signal.Signals, at: int) -> Spoil:
    """A `spoil` that sends the process a signal in forward pass `at`."""

    def spoil(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
        if n == at:
            os.kill(os.getpid(), number)
        return loss

    return spoil
