"""The benchmark of training: both sides compute the same, and what it writes can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "training_speed" / "run.py"
SMALL = ("--size", "64", "--width", "32", "--batch", "2", "--steps", "1", "--turns", "2", "--precision", "32")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


@pytest.mark.long
def test_both_compute_the_same_and_take_turns(tmp_path: Path) -> None:
    done = call(*SMALL, "--cached", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    read = json.loads((tmp_path / "results.json").read_text())
    assert set(read["float32_difference"]) == {
        f"{what}, masked={masked}" for what in ("loss", "gradient") for masked in (0, 1)
    }
    assert max(read["float32_difference"].values()) < 1e-5
    assert [len(rates) for rates in read["samples_per_second"].values()] == [2, 2]
    assert read["ratio"][0] == pytest.approx(
        read["samples_per_second"]["fdlab"][0] / read["samples_per_second"]["released"][0]
    )
    assert done.stdout.endswith((tmp_path / "table.md").read_text() + "\n")


@pytest.mark.long
def test_what_cannot_be_is_one_line() -> None:
    done = call("--steps", "0")
    assert done.returncode == 2 and done.stderr == "run: steps is 0; it must be 1 or more.\n"
