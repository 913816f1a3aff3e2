"""Who started this process beside others, and whether that agrees with how many are to train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fdlab.errors import EndedElsewhere, UserError


@dataclass(frozen=True)
class Launch:
    """Processes that torchrun or srun started: none of them is another's child."""

    by: str
    per_node: int
    """On this machine."""
    nodes: int
    is_told: bool = True
    """Whether it says how many a machine has, as Lightning wants of srun."""

    def check(self, devices: str | int, nodes: int) -> None:
        """Whether as many are asked for. Raises: UserError."""
        if not self.is_told:
            raise UserError(
                f"{self.by} started {self.per_node * self.nodes} processes by --ntasks; Lightning wants"
                f" --ntasks-per-node={self.per_node}."
            )
        machine = "this machine" if self.nodes == 1 else "each machine"
        if str(devices) not in ("auto", "-1", str(self.per_node)):
            raise UserError(
                f"trainer.devices={devices}, but {self.by} started {self.per_node} on {machine}; give"
                f" trainer.devices={self.per_node}, or auto."
            )
        if nodes != self.nodes:
            machines = "1 machine" if self.nodes == 1 else f"{self.nodes} machines"
            raise UserError(
                f"trainer.nodes={nodes}, but {self.by} started processes on {machines}; give"
                f" trainer.nodes={self.nodes}."
            )


def launched() -> Launch | None:
    """How this process was started beside others; None where it was started alone, or by the first."""
    world = _number("WORLD_SIZE")
    if "RANK" in os.environ and world > 1:
        per_node = _number("LOCAL_WORLD_SIZE", world)
        return Launch("torchrun", per_node, max(1, world // per_node))
    tasks = _number("SLURM_NTASKS")
    # In a shell of an allocation srun did not start this process, whatever the allocation has room for.
    if tasks > 1 and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes, told = _number("SLURM_NNODES"), "SLURM_NTASKS_PER_NODE"
        return Launch("srun", _number(told, max(1, tasks // nodes)), nodes, told in os.environ)
    return None


def local_rank() -> int:
    """Which of a machine's processes this one is, whoever started it."""
    own = "LOCAL_RANK" if "LOCAL_RANK" in os.environ or launched() is None else "SLURM_LOCALID"
    return _number(own, 0)


def is_alone_in_a_job() -> bool:
    """Whether this is a SLURM job's only process, which starts those beside it itself."""
    return "SLURM_NTASKS" in os.environ and launched() is None


@contextmanager
def said_once_a_machine() -> Iterator[None]:
    """Of what every process looks at by itself, say once a machine what is wrong. Raises: EndedElsewhere in
    its others."""
    try:
        yield
    except UserError:
        if launched() is None or local_rank() == 0:
            raise
        raise EndedElsewhere(2) from None


def _number(name: str, otherwise: int = 1) -> int:
    found = os.environ.get(name, "")
    return int(found) if found.isdecimal() else otherwise
