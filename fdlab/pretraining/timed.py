"""Training for a given time: a loop that logs, averages weights, can be killed and goes on where it stopped.

For the small networks that are trained once and shipped. The learning rate follows the share of the time (or
of the steps) that has passed, so a run ends annealed on any machine, whatever else that machine is doing.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fdlab import files
from fdlab.training.muon import Muon

LossStep = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: minutes or steps, peak learning rates, warm-up, final share of the peak."""

    minutes: float
    lr: float = 0.03
    adam_lr: float = 2e-3
    warmup_steps: int = 50
    final_share: float = 0.01
    average_decay: float = 0.999
    max_steps: int | None = None
    """Where given, the run has this many steps, however long they take."""

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.max_steps is not None:
            return min(1.0, step / self.max_steps)
        return min(1.0, elapsed_s / max(60.0 * self.minutes, 1e-9))

    def share(self, step: int, elapsed_s: float) -> float:
        """Share of the peak learning rate: linear warm-up by step, then cosine by `progress`."""
        progress = self.progress(step, elapsed_s)
        cosine = self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
        return min(1.0, (step + 1) / self.warmup_steps) * cosine


class TimedTraining:
    """Parameters, optimiser, moving average and clock of one run in one folder.

    `folder/state.safetensors` holds them all in one file, so that a kill leaves a consistent state;
    `folder/log.txt` gets a line every `log_every` steps.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        schedule: Schedule,
        log_every: int = 50,
        save_every_s: float = 120.0,
    ) -> None:
        self.folder, self.module, self.schedule = Path(folder), module, schedule
        self.log_every, self.save_every_s = log_every, save_every_s
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = Muon(self.parameters.items(), schedule.lr, schedule.adam_lr)
        self.step, self.elapsed_s = 0, 0.0
        if self.state_file.exists():
            self.load()

    @property
    def state_file(self) -> Path:
        """The checkpoint."""
        return self.folder / "state.safetensors"

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            tensors[f"weights/{name}"] = parameter.detach().contiguous()
            tensors[f"average/{name}"] = self.average[name].contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = value.contiguous()
        with files.whole(self.state_file) as temporary:
            save_file(tensors, temporary, {"step": str(self.step), "elapsed_s": repr(self.elapsed_s)})

    @torch.no_grad()
    def load(self) -> None:
        """Go back to the checkpoint."""
        with safe_open(self.state_file, "pt") as state:
            self.step, self.elapsed_s = int(state.metadata()["step"]), float(state.metadata()["elapsed_s"])
            for key in state.keys():  # noqa: SIM118 - safe_open's handle is no mapping
                kind, name = key.split("/", 1)
                tensor = state.get_tensor(key)
                if kind == "weights":
                    self.parameters[name].copy_(tensor)
                elif kind == "average":
                    self.average[name].copy_(tensor)
                else:
                    slot, name = name.split("/", 1)
                    parameter = self.parameters[name]
                    kept = tensor if slot == "step" else torch.empty_like(parameter).copy_(tensor)
                    self.optimizer.state[parameter][slot] = kept

    def run(self, loss_step: LossStep) -> bool:
        """Train to the end (True) or until a signal asks to stop (False); either way the state is saved."""
        started = saved = logged = time.monotonic()
        sums: dict[str, float] = {}
        before, count = self.elapsed_s, 0
        with interruptible() as stopped:
            while self.schedule.progress(self.step, self.elapsed_s) < 1 and not stopped():
                share = self.schedule.share(self.step, self.elapsed_s)
                self.optimizer.set_share(share)
                self.optimizer.zero_grad(set_to_none=True)
                loss, parts = loss_step(self.step)
                loss.backward()
                nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
                self.optimizer.step()
                self.step += 1
                self.update_average()
                now = time.monotonic()
                self.elapsed_s, count = before + now - started, count + 1
                for name, value in {"loss": loss.detach(), **parts}.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                if count == self.log_every:
                    self.log(sums, count, share * self.schedule.lr, (now - logged) / count)
                    logged, sums, count = now, {}, 0
                if now - saved > self.save_every_s:
                    self.save()
                    saved = now
            self.save()
            return not stopped()

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the weights; early on faster, so that it forgets the start."""
        decay = min(self.schedule.average_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def log(self, sums: dict[str, float], count: int, rate: float, seconds: float) -> None:
        """Append one line: step, minutes gone and left, seconds a step, rate, means since the last."""
        done = self.schedule.progress(self.step, self.elapsed_s)
        left = self.elapsed_s / 60 * (1 - done) / done
        means = "  ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
        line = (
            f"step {self.step:6d}  {self.elapsed_s / 60:6.1f} min, {left:5.1f} left  {seconds:.3f} s/step  "
            f"lr {rate:.2e}  {means}"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("a") as stream:
            stream.write(line + "\n")
        print(line, flush=True)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The module with the averaged weights in it, put back on leaving."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        training = self.module.training
        self.put(self.average)
        self.module.eval()
        try:
            yield self.module
        finally:
            self.put(kept)
            self.module.train(training)

    @torch.no_grad()
    def put(self, tensors: dict[str, Tensor]) -> None:
        """Copy these tensors into the parameters of the same names."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[name])


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question the loop can ask between two steps."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
