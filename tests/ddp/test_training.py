"""Data-parallel training over two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from fdlab.training import checkpoints


@pytest.mark.skipif(os.name == "nt" or not dist.is_available(), reason="needs gloo")
def test_a_loss_that_is_none_in_one_process_stops_both_at_the_same_step(tmp_path: Path) -> None:
    script = Path(__file__).with_name("diverging.py")
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2]), "OMP_NUM_THREADS": "1"}
    for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(tmp_path / f"rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    # Forward pass 5 is the second of the third step; only the process that shows it knows its samples.
    assert "the loss is nan at step 3 (batch: p5)" in said[0]
    assert checkpoints.read(tmp_path / "checkpoints/last.ckpt")["step"] == 2
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["last.ckpt", "step-2.ckpt"]
