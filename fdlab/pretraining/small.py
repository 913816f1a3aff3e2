"""The training of a small network that ships: by Muon, for minutes or steps, in a folder of its own.

It is `fdlab.training`'s engine over batches that the network's own module makes from the step's number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fdlab.engine.callbacks.curves import seconds_until
from fdlab.engine.continuing import resume_from
from fdlab.engine.draws import Draws
from fdlab.engine.loop import LoopSettings, run
from fdlab.engine.module import Losses, Optimization, Training
from fdlab.engine.numbered import NumberedPasses

LossStep = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
"""The loss of a step, and its parts to show."""
CURVES = "metrics.csv"


@dataclass(frozen=True)
class Length:
    """How long a run is in all, those of earlier processes included."""

    minutes: float
    steps: int | None = None
    """Where given, this many steps, however long they take."""


class SmallTraining(Training):
    """Everything of `network` that is not frozen learns what `loss_step` says."""

    def __init__(self, network: nn.Module, loss_step: LossStep, lr: float, seed: int = 0) -> None:
        rates: dict[str, Any] = {"lr": lr, "warmup_steps": 50, "schedule": "cosine"}
        super().__init__(Optimization("muon", **rates), seed)
        self.network, self.loss_step = network, loss_step
        self.start({name: p for name, p in network.named_parameters() if p.requires_grad})

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        """The loss of the step that the batch names."""
        loss, parts = self.loss_step(int(batch["number"]))
        return {"loss": loss, **parts}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights, in evaluation mode; both are put back on leaving."""
        training = self.network.training
        self.network.eval()
        with super().averaged():
            yield
        self.network.train(training)


def train(
    training: SmallTraining,
    folder: Path,
    length: Length,
    bf16: bool = True,
    every: int = 50,
    device: str = "cpu",
) -> bool:
    """Train to the end (True), or until a signal asks to stop (False); either way the state is saved.

    Writes to `folder`: metrics.csv (a row every `every` steps) and checkpoints/. Run again to go on.
    """
    bounds: dict[str, Any] = (
        {"minutes": length.minutes} if length.steps is None else {"max_steps": length.steps}
    )
    # A step takes about a second: a kill costs two minutes of them.
    settings = LoopSettings(
        **bounds,
        precision="bf16" if bf16 else "32",
        accelerator=device,
        log_every=every,
        checkpoint_every=2 * every,
    )
    try:
        run(training, NumberedPasses(), settings, folder, resume_from(training, folder, "auto"))
    except KeyboardInterrupt as interrupt:
        print(interrupt, file=sys.stderr)
        return False
    return True


def report(training: SmallTraining, folder: Path) -> dict[str, float]:
    """Steps and minutes that stand behind the weights."""
    return {"steps": training.step, "minutes": seconds_until(folder / CURVES, training.step) / 60}
