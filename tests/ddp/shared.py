"""Train in two processes: a tiny SDM by each way of sharing it, in two goes, and a line that diverges; and
evaluate together.

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

import pytest
import torch
import torch.multiprocessing as mp

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.config.compose import compose
from fdlab.engine import together
from fdlab.engine.finite import Diverged
from fdlab.engine.ranks import Ranks
from fdlab.errors import EndedElsewhere, UserError
from fdlab.evaluation import generation, measuring, run, second_recogniser
from fdlab.evaluation.pages import Evaluated
from fdlab.evaluation.validation import EvaluateWhileTraining
from fdlab.measure.networks import Extractors
from fdlab.training.fit import fit
from tests.worlds import squares, tiny
from tests.worlds.line import Line, train

STEPS, PICTURES = 4, 8
BATCH = 4
"""Pictures of a benchmark that are drawn together."""
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
        f"trainer.sample_every={STEPS}",
        "trainer.checkpoint_every=3", "trainer.log_every=1", "data.reference=mixed",
        "model.timesteps=log_normal", "model.text_only=0.2",
    ]  # fmt: skip
    return compose(["+exp=sdm", *tiny.overrides(folder, backbone, data, *tiny.RELEASED, *options, *more)])


def share(folder: Path, backbone: Path, data: Path, strategy: str, kind: str) -> None:
    """Train at half the batch in each process, in two goes where states are sliced."""
    shared = [f"trainer.strategy={strategy}", "trainer.devices=2", f"trainer.batch_size={PICTURES // 2}"]
    for steps in (3, STEPS) if kind == "adamw" and strategy != "ddp" else (STEPS,):
        more = [*KINDS[kind], f"name={strategy}-{kind}", f"trainer.max_steps={steps}"]
        cfg = configured(folder, backbone, data, *shared, *more)
        fit(cfg, watchers=watchers(folder, cfg) if strategy == "ddp" else ())


def watchers(folder: Path, cfg: Any) -> list[EvaluateWhileTraining]:
    """What validates before and after a training."""
    run_dir = Path(cfg.paths.runs) / cfg.experiment / cfg.name
    sampler = {"guider": "sdm", "base": "null", "num_steps": 2, "guidance_scale": 2.0}
    bench, parts = benchmarks.load(folder / "bench"), squares.extractors()
    return [EvaluateWhileTraining(run_dir, bench, parts, sampler, STEPS, "clip_score", batch_size=BATCH)]


def evaluated(folder: Path, backbone: Path, data: Path, *more: str) -> Any:
    """The SDM that two processes trained by ddp, and a benchmark to draw with it."""
    bench = ["benchmark=own", f"benchmark.folder={folder / 'bench'}", "benchmark.baselines=false"]
    bench += [f"benchmark.max_{what}=0" for what in ("subjects", "prompts", "images")]
    more = (*bench, f"benchmark.batch_size={BATCH}", "sampler=sdm", "name=ddp-adamw", *more)
    return configured(folder, backbone, data, *KINDS["adamw"], *more)


def evaluate(
    folder: Path, backbone: Path, data: Path, run_dir: Path, parts: Extractors | None = None
) -> list[dict[str, Any]]:
    """Score it twice, without figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluated, "write", lambda *_: [])
        patch.setattr(second_recogniser.loading, "second", lambda *_: Extractors(squares.Faces()))
        cfg = evaluated(folder, backbone, data)
        return run.evaluate(cfg, run_dir, extractors=parts or squares.extractors())


def noting(patch: pytest.MonkeyPatch) -> tuple[list[str], list[int]]:
    """Which pictures this process draws, and how many it looks at together."""
    drawn: list[str] = []
    looked: list[int] = []
    write_png, read_images = generation.write_png, measuring.read_images
    patch.setattr(
        generation, "write_png", lambda path, *rest: (drawn.append(path.name), write_png(path, *rest))
    )
    patch.setattr(
        measuring, "read_images", lambda paths, size: (looked.append(len(paths)), read_images(paths, size))[1]
    )
    return drawn, looked


class Torn(squares.Clip):
    """Fails in the second process."""

    def __call__(self, images_BHW3: Any) -> Any:
        """Features."""
        if torch.distributed.get_rank() == 1:
            raise UserError("a picture is torn")
        return super().__call__(images_BHW3)


def tear(*places: Path) -> str:
    """How an evaluation ends in this process where it fails in the second."""
    run_dir = places[0] / "runs" / "sdm" / "ddp-adamw"
    # On a busy machine it takes its time until the second has gone.
    together.GRACE = 60
    try:
        with together.ending(run_dir):
            evaluate(*places, run_dir, Extractors(clip=Torn()))
    except EndedElsewhere as ended:
        return f"status {ended.status}"
    except UserError as error:
        return str(error)
    return "done"


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


def work(rank: int, port: int, *places: Path) -> None:
    """What one of the two processes does."""
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    folder = places[0]
    pairs = [way.split("-") for way in WAYS]
    for strategy, kind in pairs:
        with pytest.MonkeyPatch.context() as patch:
            drawn, looked = noting(patch)
            share(*places, strategy, kind)
            if strategy == "ddp":
                assert Ranks.here().before(7 - rank, torch.device("cpu")) == 7 * rank
                records = evaluate(*places, places[0] / "runs" / "sdm" / "ddp-adamw")
                found = {"drawn": drawn, "looked": looked, "records": len(records)}
                (folder / f"evaluated-{rank}.json").write_text(json.dumps(found))
    said = {strategy: diverge(folder, strategy) for strategy, kind in pairs if kind == "adamw"}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))
    # The last thing: what breaks in the first is that the second has gone.
    (folder / f"torn-{rank}.txt").write_text(tear(*places))


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(work, (port, *map(Path, sys.argv[1:])), nprocs=2, start_method="fork")


if __name__ == "__main__":
    main()
