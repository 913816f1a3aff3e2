"""What the README tells a newcomer to type is what works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("README.md", "conf/README.md", "conf/RECIPES.md", "experiments/README.md", "fdlab/README.md")
TEXTS = {place: (ROOT / place).read_text() for place in PLACES}
README = TEXTS["README.md"]


def command(name: str) -> str:
    """The one line below `<!-- name -->`."""
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert found, f"README.md has no command marked <!-- {name} -->"
    return found[1]


def lines() -> list[str]:
    """Every `python -m fdlab ...` and `fdlab ...` in a code block."""
    blocks = [block for text in TEXTS.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
    parts = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [part for part in parts if re.match(r"(\S*python3? -m )?fdlab ", part)]


def arguments(line: str) -> list[str]:
    return shlex.split(line.partition("#")[0])[shlex.split(line).index("fdlab") + 1 :]


@pytest.mark.parametrize("name", ["train", "tests"])
def test_each_command_is_a_single_line_that_also_sets_up(name: str) -> None:
    assert "\n" not in command(name)
    assert command(name).startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_the_commands_are_the_contracts() -> None:
    assert command("train").endswith(".venv/bin/python -m fdlab train +exp=sdm")
    assert command("tests").endswith(".venv/bin/python -m pytest")


@pytest.mark.parametrize("line", lines())
def test_every_command_names_a_verb_and_options_that_exist(line: str) -> None:
    from fdlab.__main__ import VERBS
    from fdlab.config.compose import compose
    from fdlab.sweeps.asked import read
    from fdlab.sweeps.grid import expand, split_jobs

    verb, *rest = arguments(line)
    assert verb in VERBS
    if verb == "train":
        for overrides, _ in expand([argument for argument in rest if not argument.startswith("-")]):
            compose(overrides)
    if verb == "sweep":
        pytest.importorskip("optuna")
        read(split_jobs(rest)[0])


@pytest.mark.parametrize("place", PLACES)
def test_files_that_a_readme_names_exist(place: str) -> None:
    named = re.findall(r"\[[^\]]*\]\((?!http)([^)#]+)", TEXTS[place])
    assert [name for name in named if not ((ROOT / place).parent / name).exists()] == []


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.split()) < 1000


@pytest.mark.long
@pytest.mark.command
def test_the_main_job_runs_at_its_smallest_setting(tmp_path: Path) -> None:
    given = arguments(command("train").split("&&")[-1].strip())
    line = [sys.executable, "-m", "fdlab", *given, "trainer=smoke"]
    environment = {**os.environ, "FDLAB_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (tmp_path / "runs" / "sdm").iterdir()
    for name in ("config.yaml", "overrides.yaml", "environment.json", "metrics.csv", "report.html"):
        assert (run / name).is_file(), name
    for name in ("checkpoints/last.ckpt", "model", "samples"):
        assert (run / name).exists(), name
    for name in ("record.json", "per_sample.jsonl"):
        assert (run / "evaluation" / name).is_file(), name
    assert str(run / "report.html") in done.stdout
