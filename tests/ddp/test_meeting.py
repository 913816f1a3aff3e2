"""Processes that torchrun or srun started wait for what the first settles."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fdlab.config import meeting

SCRIPT = Path(__file__).with_name("meet.py")


def environment() -> dict[str, str]:
    names = ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE")
    found = {name: value for name, value in os.environ.items() if name not in names}
    return {**found, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}


def by_torchrun(*words: str) -> None:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*line, str(SCRIPT), *words], env=environment(), check=True, capture_output=True, timeout=90
    )


def by_srun(*words: str) -> None:
    """As its variables say; there is no SLURM here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "7", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *words],
            env={**environment(), **both, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=90) for process in started] == [0, 0]


@pytest.mark.long
@pytest.mark.parametrize("start", [by_torchrun, by_srun])
def test_all_work_where_the_first_says(start: object, tmp_path: Path) -> None:
    assert callable(start)
    start(str(tmp_path))
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["in a-2", "in a-2"]
    start(str(tmp_path), "refused")
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert said == ["it holds another run", "another process ended with status 2"]


def test_one_that_is_alone_settles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert meeting.settled_by_first(None, lambda: "mine") == "mine"
