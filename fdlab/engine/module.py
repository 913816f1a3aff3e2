"""What every training has in common: trained parameters by name, AdamW, learning rate, averaging, exact
steps.

Axes: B batch, C latent channels, H W latent grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from fdlab.engine.averaging import Averaging, Place
from fdlab.engine.draws import Draws
from fdlab.engine.finite import Pass, diverged, traced
from fdlab.engine.optimizers import KINDS, split
from fdlab.engine.sharding import FullySharded, Shards, owners
from fdlab.engine.zero import ZeRO
from fdlab.randomness import torch_generator
from fdlab.sharded import gathered

Losses = dict[str, Tensor]
"""Scalars by name; `loss` is what is minimised, the others are shown."""


@dataclass(frozen=True)
class Optimization:
    """The optimiser and what goes with it; defaults are the released scripts' but for the learning rate."""

    optimizer: Literal["adamw", "muon", "adafactor", "adamw8bit", "prodigy"] = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    decay_share: float = 0.3
    """Last share of all steps in which "wsd" falls."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: any."""
    ema_decay: float = 0.999
    ema_device: Place = "same"

    def lr_at(self, step: int, max_steps: int) -> float:
        """Learning rate of optimiser step `step`, counted from 0: linear warm-up, then constant, cosine to
        0, or (wsd: warm-up, stable, decay) constant and at the end linear to 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant" or max_steps <= self.warmup_steps:
            return self.lr
        if self.schedule == "wsd":
            decay = self.decay_share * max_steps
            return self.lr * max(0.0, min(1.0, (max_steps - step) / decay)) if decay else self.lr
        done = (step - self.warmup_steps) / (max_steps - self.warmup_steps)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Training(lightning.LightningModule):
    """Base of all trainings that `fdlab.engine.loop` runs.

    A subclass calls `super().__init__`, registers its networks, calls `start` with the parameters that learn
    (by name), and writes `losses` and `export`. `step` counts optimiser steps from the very first; everything
    random follows from (seed, forward pass, sample), so that a run resumed at `step`, or shared out over
    other numbers of processes, goes on as if it had not been.
    """

    def __init__(self, optimization: Optimization, seed: int) -> None:
        super().__init__()
        self.optimization, self.seed = optimization, seed
        self.step, self.max_steps, self.accumulate = 0, 0, 1
        self.first_pass = 0
        """Forward passes that were done before this process began."""
        self.latest: Losses = {}
        self.grad_norm: Tensor | None = None
        """Of the last step, before it was clipped."""
        self._passes: list[Pass] = []
        self._skips = False
        """Whether the step that is being made changes nothing: its gradients were too large for fp16."""
        self._trained: dict[str, nn.Parameter] = {}
        self.shards: Shards | None = None
        """The networks that learn, where they are shared out over devices."""

    def start(self, trained: dict[str, nn.Parameter]) -> None:
        """Say which parameters learn."""
        self._trained = trained
        self.averaging = Averaging(trained, self.optimization.ema_decay, self.optimization.ema_device)

    def losses(self, batch: dict[str, Any], draws: Draws) -> Losses:
        """Compute the losses of a batch; every random number comes from `draws`."""
        raise NotImplementedError

    def learning(self) -> list[nn.Module]:
        """The networks that parameters which learn belong to."""
        return [child for child in self.children() if any(p.requires_grad for p in child.parameters())]

    def export(self, folder: Path) -> None:
        """Write the model as it is now to a folder, whole or not at all."""
        raise NotImplementedError

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that learn, by name, in a fixed order."""
        return self._trained

    def rate_shares(self) -> dict[str, float]:
        """Parameters that learn at another rate than `lr`, and at which share of it."""
        return {}

    def configure_model(self) -> None:
        """Lightning's hook: share out what learns, where the strategy asks for it."""
        if isinstance(self.trainer.strategy, FullySharded) and self.shards is None:
            places = owners(self.learning(), self._trained)
            self.shards = Shards(self.learning(), self.trainer.strategy.device_mesh["data_parallel"])
            self._follow(places)

    def on_train_end(self) -> None:
        """Lightning's hook, the last with all devices at work: plain networks for whoever comes next."""
        if self.shards is not None:
            places = owners(self.learning(), self._trained)
            averages = {name: gathered(average).cpu() for name, average in self.averaging.average.items()}
            self.shards.undo()
            self.shards, self.averaging.average = None, averages
            self._follow(places)

    def _follow(self, places: dict[str, tuple[nn.Module, str]]) -> None:
        """Find the parameters again that have taken the others' places."""
        self._trained = {name: getattr(module, attribute) for name, (module, attribute) in places.items()}
        self.averaging.follow(self._trained)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the weights' place, and networks that each device can run by itself.

        Between steps: gradients, which the next begins anew, make room for what is computed inside.
        """
        for parameter in self._trained.values():
            parameter.grad = None
        with self.averaging.swapped_in(), self.shards.whole() if self.shards else nullcontext():
            yield

    @property
    def zero(self) -> ZeRO | None:
        """DeepSpeed's strategy, where it trains this."""
        strategy = None if self._trainer is None else self._trainer.strategy
        return strategy if isinstance(strategy, ZeRO) else None

    @property
    def scaler(self) -> Any:
        """What scales the loss, where fp16 trains this; else None."""
        return None if self._trainer is None else getattr(self._trainer.precision_plugin, "scaler", None)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Lightning's hook: one forward pass."""
        # The 0 stood for the first process, when each had a stream of its own: seeds mean what they meant.
        generator = torch_generator(self.seed, "training", self.first_pass + batch_idx, 0)
        losses = self.losses(batch, Draws(generator, self.global_rank, self.trainer.world_size))
        self.latest = {name: value.detach() for name, value in losses.items()}
        self._passes.append(Pass(tuple(batch.get("ids", ())), self.latest["loss"]))
        return traced(losses["loss"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook: the optimiser over the parameters that learn."""
        made = KINDS[self.optimization.optimizer].make(self._trained, self.optimization)
        split(made, self._trained, self.rate_shares())
        return made

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's hook, before the step is made: clip the gradient's norm, and stop where it is none.

        Lightning's own refuses fused optimisers under autocast. Raises: Diverged.
        """
        self.averaging.let_weights_change()
        if self.zero is not None:
            # It clips, and refuses a gradient that is not finite, in its step.
            return
        if self.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            # Fused ones would do so in their step, after the clipping.
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(list(self._trained.values()), self.optimization.clip or math.inf)
        self._check(gathered(norm))

    def _check(self, norm: Tensor) -> None:
        """Keep the gradient's norm. Raises: Diverged where it is not finite, and no smaller scale of the loss
        is left to try."""
        self._skips = False
        if not bool(torch.isfinite(norm)):
            if self.scaler is not None and self.scaler.get_scale() > 1:
                self._skips, self.grad_norm = True, None
                return
            saved = "the state before it is in last.ckpt" if self.step else "nothing had been learned"
            raise diverged(self.step + 1, self._passes, saved)
        self.grad_norm = norm.detach()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Lightning's hook: one step at this step's learning rate, then the average."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * (
                group.get("peak_lr", self.optimization.lr) / self.optimization.lr
            )
        is_whole = self.zero is None or self.zero.completes_a_step()
        optimizer.step(closure=optimizer_closure)
        if not is_whole:
            return
        if self.zero is not None:
            self._check(torch.tensor(self.zero.grad_norm()))
        if not self._skips:
            self.averaging.update(self.step)
        self.step += 1
        self._passes = []

    @property
    def learning_rate(self) -> float:
        """Learning rate of the step that comes next."""
        return self.optimization.lr_at(self.step, self.max_steps)

    def train(self, mode: bool = True) -> Training:
        """Put the networks that learn into training mode; frozen ones stay in evaluation mode."""
        super().train(mode)
        for child in self.modules():
            if child is not self and not any(p.requires_grad for p in child.parameters()):
                child.training = False
        return self
