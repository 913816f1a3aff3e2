"""What else the machine does while the clock runs."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import NamedTuple

import torch

STAT = Path("/proc/stat")


class Usage(NamedTuple):
    """Seconds of all cores since some start, busy by anyone and by this process, at a time in seconds."""

    busy: float
    own: float
    at: float


def usage() -> Usage | None:
    """Of this moment; None where the system does not tell."""
    if not STAT.is_file():
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(x) for x in STAT.read_text().split()[1:9])
    own = resource.getrusage(resource.RUSAGE_SELF)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return Usage(busy, own.ru_utime + own.ru_stime, time.perf_counter())


def others(before: Usage | None, after: Usage | None) -> float | None:
    """Cores that other processes kept busy in between, on average."""
    if before is None or after is None:
        return None
    spent = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, spent / (after.at - before.at))


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
