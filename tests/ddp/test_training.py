"""Training over two processes: losses, weights and states as in one, and one end where it diverges."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file

from fdlab.engine import checkpoints
from fdlab.engine.draws import Draws
from fdlab.evaluation import second_recogniser
from fdlab.records.record import read as read_record
from fdlab.records.validation_history import History
from fdlab.training.fit import fit
from tests.ddp import shared
from tests.worlds import squares, tiny

GOOD = 1e-5
BF16 = 0.02
"""Muon's directions are computed in bf16, which makes steps of other roundings."""


def test_processes_draw_parts_of_what_one_draws() -> None:
    def drawn(rank: int, world: int) -> torch.Tensor:
        draws = Draws(torch.Generator().manual_seed(3), rank, world)
        parts = [draws.normal(8 // world, 2), draws.uniform(8 // world, 2), draws.coins(0.5, 8 // world, 2)]
        return torch.cat(
            [*(part.float() for part in parts), draws.coin(0.5).float().expand(8 // world, 2)], dim=1
        )

    both = [drawn(rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat(both), drawn(0, 1)) and not torch.equal(*both)


@pytest.mark.skipif(os.name == "nt" or not dist.is_available(), reason="needs gloo")
@pytest.mark.long
def test_two_processes_learn_what_one_learns_however_they_share_it(tmp_path: Path) -> None:
    backbone, data = tiny.write_backbone(tmp_path / "tiny"), tiny.write_folder(tmp_path / "data", 10)
    squares.write_benchmark(tmp_path / "bench", subjects=3, prompts=3, images=4, size=tiny.IMAGE)
    in_two(tmp_path, backbone, data)
    runs = tmp_path / "runs" / "sdm"
    pairs = [way.split("-") for way in shared.WAYS]
    for kind in sorted({kind for _, kind in pairs}):
        cfg = shared.configured(tmp_path, backbone, data, f"name=one-{kind}", *shared.KINDS[kind])
        fit(cfg, watchers=shared.watchers(tmp_path, cfg) if kind == "adamw" else ())
    for strategy, kind in pairs:
        tolerance = BF16 if kind == "muon" else GOOD
        one, two = runs / f"one-{kind}", runs / f"{strategy}-{kind}"
        assert curve(two) == pytest.approx(curve(one), abs=tolerance), (strategy, kind)
        assert differing(one, two) < tolerance, (strategy, kind)
        grids = [grid_of(run) for run in (one, two)]
        assert np.abs(grids[0] - grids[1]).max() <= (5 if kind == "muon" else 1), (strategy, kind)

    # A state that two processes shared goes on in one.
    for strategy in {strategy for strategy, _ in pairs} - {"ddp", "zero1"}:
        state = runs / f"{strategy}-adamw" / "checkpoints" / "step-3.ckpt"
        more = [*shared.KINDS["adamw"], f"name=alone-{strategy}", f"resume={state}"]
        fit(shared.configured(tmp_path, backbone, data, *more))
        assert differing(runs / "one-adamw", runs / f"alone-{strategy}") < GOOD

    evaluated_as_by_one(tmp_path, backbone, data)
    histories = [History.read(runs / name / "validation.csv").rows for name in ("one-adamw", "ddp-adamw")]
    assert [step for step, _ in histories[1]] == [0, shared.STEPS]
    # Of the same weights the same to the last bit.
    assert histories[0][0] == histories[1][0] and len(histories[0][0][1]) > 5
    assert histories[0][1][1] == pytest.approx(histories[1][1][1], rel=1e-3)
    torn = [(tmp_path / f"torn-{rank}.txt").read_text() for rank in (0, 1)]
    assert torn == ["status 2", "a picture is torn"]

    said = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    for strategy, reason in said[0].items():
        # Forward pass 5 is the second of the third step; only the process that shows it knows its samples.
        assert "the loss is nan at step 3 (batch: p5)" in reason, strategy
        states = tmp_path / strategy / "checkpoints"
        assert checkpoints.read(states / "last.ckpt")["step"] == 2
        assert sorted(p.name for p in states.iterdir()) == ["last.ckpt", "step-2.ckpt"]


def evaluated_as_by_one(folder: Path, backbone: Path, data: Path) -> None:
    """Each process drew and measured a share; the first has the record that one process makes, to the bit."""
    found = [json.loads((folder / f"evaluated-{rank}.json").read_text()) for rank in (0, 1)]
    # Two validations and an evaluation of 36 pictures each: drawn four at a time, looked at 32 at a time.
    assert [len(one["drawn"]) for one in found] == [3 * 20, 3 * 16]
    assert [sorted(set(one["looked"])) for one in found] == [[32], [4, 6]]
    assert [one["records"] for one in found] == [1, 0]
    together, alone = folder / "runs" / "sdm" / "ddp-adamw" / "evaluation", folder / "alone" / "evaluation"
    shutil.copytree(together.parent / "model", alone.parent / "model")
    (record,) = shared.evaluate(folder, backbone, data, alone.parent)
    assert len(record["metrics"]) > 8
    for path in alone.rglob("*.png"):
        assert path.read_bytes() == (together / path.relative_to(alone)).read_bytes()
    for place in (".", second_recogniser.FOLDER):
        one, two = (read_record(path / place / "record.json") for path in (alone, together))
        assert one["metrics"] == two["metrics"]
        one, two = ((path / place / "per_sample.jsonl").read_bytes() for path in (alone, together))
        assert one == two


def in_two(folder: Path, backbone: Path, data: Path) -> None:
    """Run shared.py, which forks."""
    script = Path(shared.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    command = [sys.executable, str(script), *map(str, (folder, backbone, data))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


def grid_of(run: Path) -> np.ndarray:
    """The last sample grid, of which two processes draw every other picture."""
    with Image.open(run / "samples" / f"step-{shared.STEPS}.png") as grid:
        return np.asarray(grid, dtype=int)


def curve(run: Path) -> list[float]:
    """Every number of metrics.csv but the time."""
    with (run / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, shared.STEPS + 1)]
    return [float(value) for row in rows for key, value in row.items() if key != "seconds"]


def differing(one: Path, other: Path) -> float:
    """The largest difference of two runs' weights."""
    found = []
    for file in sorted((one / "model").rglob("*.safetensors")):
        a, b = load_file(file), load_file(other / file.relative_to(one))
        assert a.keys() == b.keys()
        found += [float((a[name] - b[name]).abs().max()) for name in a]
    assert len(found) > 200
    return max(found)
