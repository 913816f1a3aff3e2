"""profile=true: a few steps as a trace, operation by operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from torch.profiler import ProfilerActivity, profile

from fdlab.engine.callbacks.stepping import StepCallback
from fdlab.engine.module import Training
from fdlab.files import whole, write_text

SKIPPED, TRACED = 2, 3
"""Steps that are let pass, since the first ones are slower, and steps that are traced."""
TRACE, TABLE = "trace.json", "operations.txt"


class Profile(StepCallback):
    """Writes folder/trace.json (for chrome://tracing or Perfetto) and folder/operations.txt, once a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._steps, self._profile = 0, None  # type: int, Any

    def on_step(self, trainer: lightning.Trainer, module: Training) -> None:
        """Begin after the first steps, end some steps later."""
        self._steps += 1
        if self._profile is None and self._steps == SKIPPED and self._is_wanted(trainer):
            activities = [ProfilerActivity.CPU]
            activities += [ProfilerActivity.CUDA] if module.device.type == "cuda" else []
            self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
            self._profile.__enter__()
        elif self._profile is not None and self._steps == SKIPPED + TRACED:
            self._end(module.device)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Lightning's hook: a training of few steps ends sooner."""
        if self._profile is not None:
            self._end(pl_module.device)

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Lightning's hook."""
        if self._profile is not None:
            self._profile.__exit__(None, None, None)
            self._profile = None

    def _is_wanted(self, trainer: lightning.Trainer) -> bool:
        return trainer.is_global_zero and not (self.folder / TRACE).exists()

    def _end(self, device: torch.device) -> None:
        done, self._profile = self._profile, None
        done.__exit__(None, None, None)
        self.folder.mkdir(parents=True, exist_ok=True)
        by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        table = done.key_averages(group_by_input_shape=True).table(sort_by=by, row_limit=40)
        write_text(self.folder / TABLE, table + "\n")
        with whole(self.folder / TRACE) as temporary:
            done.export_chrome_trace(str(temporary))
