"""Processes that torchrun or srun starts, and what is asked for beside that."""

from __future__ import annotations

import pytest

from fdlab.__main__ import main
from fdlab.config import launch
from fdlab.config.launch import Launch, launched
from fdlab.engine.loop import LoopSettings, check_device
from fdlab.errors import UserError

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SRUN, "SLURM_NTASKS_PER_NODE", "SLURM_JOB_NAME", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def started(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "found", "rank"),
    [
        ({}, None, 0),
        # What Lightning starts itself.
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None, 1),
        ({"SLURM_NTASKS": "1", "LOCAL_RANK": "1"}, None, 1),
        (TORCHRUN, Launch("torchrun", 2, 2), 1),
        (SRUN, Launch("srun", 4, 2, False), 1),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "4"}, Launch("srun", 4, 2), 1),
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, None, 0),
        (SRUN | {"SLURM_NNODES": "1"}, Launch("srun", 8, 1, False), 1),
    ],
)
def test_who_started_it_is_seen(
    environment: dict[str, str], found: Launch | None, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, **environment)
    assert (launched(), launch.local_rank()) == (found, rank)
    assert launch.is_alone_in_a_job() == ("SLURM_NTASKS" in environment and found is None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"devices": 1}, r"trainer\.devices=1, but torchrun started 2 on each machine; give .*=2, or auto"),
        ({"devices": "2", "nodes": 1}, r"trainer\.nodes=1, but .* on 2 machines; give trainer\.nodes=2"),
    ],
)  # fmt: skip
def test_what_contradicts_how_it_was_started_is_refused(
    asked: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(monkeypatch, **TORCHRUN)
    check_device(LoopSettings(accelerator="cpu", devices="auto", nodes=2))
    with pytest.raises(UserError, match=said):
        check_device(LoopSettings(accelerator="cpu", **asked))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="by --ntasks; Lightning wants --ntasks-per-node=4"):
        Launch("srun", 4, 2, False).check(4, 2)


def test_a_refusal_is_said_once_a_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["train", "+exp=sdm", "tdm=nowhere", "evaluate=true"]
    lines = []
    for rank in ("2", "3"):
        started(monkeypatch, **TORCHRUN | {"RANK": rank, "LOCAL_RANK": str(int(rank) % 2)})
        assert main(wrong) == 2
        lines.append(capsys.readouterr().err)
    assert "nowhere" in lines[0] and lines[1] == ""
    # What fails in a process that the first started is its own.
    monkeypatch.delenv("RANK")
    with pytest.raises(UserError), launch.said_once_a_machine():
        raise UserError("torn")
