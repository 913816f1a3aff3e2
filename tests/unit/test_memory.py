"""Freed memory stays with the process, unless somebody said otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from fdlab.memory import keep_freed
print(keep_freed())
for _ in range(3):
    np.ones(32 * 2**20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(32 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("said", [{}, {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "100000"}])
def test_what_is_freed_is_not_faulted_in_again(said: dict[str, str]) -> None:
    root = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**kept, "PYTHONPATH": root, **said},
        capture_output=True,
        text=True,
        check=True,
    )
    does, faults = done.stdout.split()
    assert does == str(not said)
    # 32 MiB are 8,192 pages, where the kernel gives no larger ones.
    assert (int(faults) < 100) == (not said)
