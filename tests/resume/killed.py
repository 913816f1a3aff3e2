"""Train in children that kill themselves at given moments, and once without; print both results as JSON.

    python killed.py FOLDER BACKBONE PEOPLE
A child is forked from a process that has computed nothing, so that a round costs no imports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from fdlab.config.compose import compose
from fdlab.data import store
from fdlab.engine import checkpoints
from fdlab.engine.callbacks import checkpoint, curves
from fdlab.engine.module import Training
from fdlab.models.backbone import load_backbone
from fdlab.training import fit as fit_module
from tests.worlds import tiny as world


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def while_preparing() -> None:
    commit = store.ArrayFolder.commit

    def patched(self: Any, **state: Any) -> None:
        commit(self, **state)
        die()

    store.ArrayFolder.commit = patched  # type: ignore[method-assign]


def within_step(step: int) -> Callable[[], None]:
    def install() -> None:
        clip = Training.configure_gradient_clipping

        def patched(self: Training, *arguments: Any, **more: Any) -> None:
            if self.step == step:
                die()
            clip(self, *arguments, **more)

        Training.configure_gradient_clipping = patched  # type: ignore[method-assign]

    return install


def while_writing_checkpoint() -> None:
    def half(state: Any, stream: BinaryIO) -> None:
        stream.write(b"PK" * 5000)
        stream.flush()
        die()

    checkpoints.torch.save = half  # type: ignore[attr-defined]


def between_checkpoint_and_last() -> None:
    def patched(path: Path) -> Any:
        die()

    checkpoint.whole = patched  # type: ignore[assignment]


def while_writing_a_row() -> None:
    def half(path: Path, row: dict[str, float]) -> None:
        with path.open("a") as stream:
            stream.write(f"{row['step']},0.")
        die()

    curves.append = half


def while_exporting() -> None:
    fit_module.write_json = lambda *arguments: die()  # type: ignore[assignment]


MOMENTS: list[Callable[[], None]] = [
    while_preparing,
    within_step(1),
    within_step(5),
    while_writing_checkpoint,
    between_checkpoint_and_last,
    while_writing_a_row,
    within_step(8),
    while_exporting,
]


def train(cfg: Any, moment: Callable[[], None] | None = None) -> int:
    """Fork, train, return the child's wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if moment:
                moment()
            torch.set_num_threads(1)
            fit_module.fit(cfg)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def configuration(root: Path, name: str) -> Any:
    more = [f"name={name}", "trainer.max_steps=9", "trainer.checkpoint_every=2", "trainer.accumulate=2"]
    more += ["trainer.sample_every=0", "trainer.log_every=3", f"paths.cache={root / name}"]
    return compose(
        ["+exp=sdm", *world.overrides(root, Path(sys.argv[2]), Path(sys.argv[3]), *world.RELEASED, *more)]
    )


def main() -> None:
    root = Path(sys.argv[1])
    # Imports that the libraries put off would otherwise be done again by every child.
    load_backbone(sys.argv[2], parts=("vae", "text_encoder", "image_encoder", "unet", "tokenizer"))
    importlib.import_module("torch._dynamo")
    first, second = (configuration(root, name) for name in ("killed", "whole"))
    killed = [os.WIFSIGNALED(train(first, moment)) for moment in MOMENTS]
    model_before_the_end = (root / "runs" / "sdm" / "killed" / "model").exists()
    ends = [train(first), train(second)]
    print(json.dumps({"killed": killed, "model_before_the_end": model_before_the_end, "ends": ends}))


if __name__ == "__main__":
    main()
