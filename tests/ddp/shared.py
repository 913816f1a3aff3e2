"""Train in two processes: a tiny SDM by each way of sharing it, in two goes, and a line that diverges.

    python shared.py FOLDER BACKBONE DATA
Both are forked from a process that has computed nothing, so that imports cost once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from fdlab.config.compose import compose
from fdlab.engine.finite import Diverged
from fdlab.evaluation import generation
from fdlab.evaluation.run import draw_together
from fdlab.training.fit import fit
from tests.worlds import tiny
from tests.worlds.line import Line, train

STEPS, PICTURES = 4, 8
KINDS = {
    "adamw": ["trainer.accumulate=2"],
    "muon": ["model.optimizer=muon", "model.lr=0.01", "model.localization_weight=0", "data.background=grey"],
}
"""By name: what is trained."""
WAYS = ["ddp-adamw", "fsdp-adamw", "fsdp-muon"]
"""Strategies, and what each trains."""
if importlib.util.find_spec("deepspeed"):
    WAYS += ["zero1-adamw", "zero2-adamw"]


def configured(folder: Path, backbone: Path, data: Path, *more: str) -> Any:
    """One SDM, whatever it is trained on."""
    options = [
        f"trainer.max_steps={STEPS}", f"trainer.batch_size={PICTURES}", "trainer.precision=32",
        "trainer.checkpoint_every=3", "trainer.log_every=1", "data.reference=mixed",
        "model.timesteps=log_normal", "model.text_only=0.2",
    ]  # fmt: skip
    return compose(["+exp=sdm", *tiny.overrides(folder, backbone, data, *tiny.RELEASED, *options, *more)])


def share(folder: Path, backbone: Path, data: Path, strategy: str, kind: str) -> None:
    """Train at half the batch in each process, in two goes where states are sliced."""
    shared = [f"trainer.strategy={strategy}", "trainer.devices=2", f"trainer.batch_size={PICTURES // 2}"]
    for steps in (3, STEPS) if kind == "adamw" and strategy != "ddp" else (STEPS,):
        more = [*KINDS[kind], f"name={strategy}-{kind}", f"trainer.max_steps={steps}"]
        fit(configured(folder, backbone, data, *shared, *more))


def evaluated(folder: Path, backbone: Path, data: Path, *more: str) -> Any:
    """The SDM that two processes trained by ddp, and a benchmark to draw with it."""
    bench = ["benchmark=own", f"benchmark.folder={folder / 'bench'}", "benchmark.baselines=false"]
    more = (*bench, "benchmark.batch_size=1", "sampler=sdm", "name=ddp-adamw", *more)
    return configured(folder, backbone, data, *KINDS["adamw"], *more)


def draw(folder: Path, backbone: Path, data: Path) -> list[str]:
    """Draw a benchmark together; what this process drew."""
    drawn: list[str] = []

    def noted(path: Path, *given: Any) -> None:
        drawn.append(path.name)
        write_png(path, *given)

    write_png, generation.write_png = generation.write_png, noted
    draw_together(evaluated(folder, backbone, data), folder / "runs" / "sdm" / "ddp-adamw")
    generation.write_png = write_png
    return drawn


def spoil(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
    """Only the second process's loss turns none."""
    return loss * torch.nan if n == 5 and module.global_rank == 1 else loss


def diverge(folder: Path, strategy: str) -> str:
    """What stopped a line's training."""
    try:
        train(folder / strategy, Line(spoil), devices=2, strategy=strategy, accumulate=2)
    except Diverged as error:
        return str(error)
    return "done"


def work(rank: int, port: int, folder: Path, backbone: Path, data: Path) -> None:
    """What one of the two processes does."""
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    pairs = [way.split("-") for way in WAYS]
    for strategy, kind in pairs:
        share(folder, backbone, data, strategy, kind)
        if strategy == "ddp":
            drawn = draw(folder, backbone, data)
            (folder / f"drawn-{rank}.json").write_text(json.dumps(drawn))
    said = {strategy: diverge(folder, strategy) for strategy, kind in pairs if kind == "adamw"}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(work, (port, *map(Path, sys.argv[1:])), nprocs=2, start_method="fork")


if __name__ == "__main__":
    main()
