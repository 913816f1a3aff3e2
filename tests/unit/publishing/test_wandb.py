"""Weights & Biases: a recorded API is asked for records, and its own offline files hold the table."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.errors import UserError
from fdlab.leaderboard import board, collect
from fdlab.leaderboard.evidence import Reader
from fdlab.publishing import wandb_runs
from fdlab.records import per_sample, wandb_table
from tests.worlds.records import example

FROZEN = Path(__file__).parent.with_name("leaderboard") / "frozen"


@dataclass
class RecordedFile:
    """What `wandb.Api` answers for a file of a run, without asking anybody."""

    name: str
    source: Path

    @property
    def size(self) -> int:
        return self.source.stat().st_size

    def download(self, root: str, replace: bool) -> None:
        assert replace
        target = Path(root) / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.source, target)


@dataclass
class RecordedRun:
    id: str
    name: str
    folder: Path | None

    def files(self, names: list[str]) -> list[RecordedFile]:
        if self.folder is None:
            return []
        return [RecordedFile(n, self.folder / n) for n in names if (self.folder / n).is_file()]


@dataclass
class RecordedApi:
    answers: list[RecordedRun]
    asked: list[str] = field(default_factory=list)

    def runs(self, path: str) -> list[RecordedRun]:
        self.asked.append(path)
        return self.answers


def test_records_are_collected_from_a_projects_runs(tmp_path: Path) -> None:
    runs = [RecordedRun(f"id/{n}", n, FROZEN / n) for n in ("close", "weak", "broken")]
    api = RecordedApi([*runs, RecordedRun("x", "only curves", None)])
    where, without = wandb_runs.fetch("me/fdlab", tmp_path, api)
    assert api.asked == ["me/fdlab"] and without == ["run 'only curves' (x) has no record"]
    entries, problems = collect.find([where])
    assert len(entries) == 2 and len(problems) == 1 and "id_broken" in problems[0]
    (table,) = board.make(collect.group(entries, "identity_similarity")).tables
    # Single pictures came along: the two are ranked.
    assert [row.rank_text for row in table.rows] == ["1", "2"]


@pytest.mark.parametrize("project", ["fdlab", "a/b/c", "../x", "a/b c", ""])
def test_another_form_of_project_is_refused(tmp_path: Path, project: str) -> None:
    with pytest.raises(UserError, match="allowed is ENTITY/PROJECT"):
        wandb_runs.fetch(project, tmp_path, RecordedApi([]))


def test_what_wandb_refuses_is_one_line(tmp_path: Path) -> None:
    import wandb

    class Refusing:
        def runs(self, path: str) -> Any:
            raise wandb.errors.CommError("no such\nproject")

    with pytest.raises(UserError, match="me/fdlab: no such project; run `wandb login`"):
        wandb_runs.fetch("me/fdlab", tmp_path, Refusing())


def test_the_table_and_pictures_are_in_wandbs_offline_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("close", "weak"):
        shutil.copytree(FROZEN / run, tmp_path / "runs" / run)
    folder = tmp_path / "runs/close/evaluation"
    for row in per_sample.read(folder):
        (folder / row["file"]).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / row["file"])
    made = board.make(collect.group(collect.find([tmp_path / "runs"])[0]))
    where = Path(wandb_runs.log(made, "fdlab", Reader()))
    (path,) = where.rglob("media/table/leaderboard/*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"][:4] == ["rank", "method", "training steps", "identity_similarity"]
    rows = {line[1]: line for line in table["data"]}
    row = made.tables[0].rows[0]
    assert rows[row.label][3] == pytest.approx(row.cells["identity_similarity"].value)
    # Pictures of a table go into its artifact; in the run's files they stand for themselves.
    assert rows["average (close)"][-1] == "Image" and rows["text alone (weak)"][-1] is None
    (sheet,) = where.rglob("media/images/leaderboard/*.png")
    with Image.open(sheet) as image:
        assert image.size == (64, 8)


def test_a_run_keeps_its_record_for_collecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        def __init__(self) -> None:
            self.saved: list[tuple[str, str]] = []

        def log(self, values: dict[str, Any]) -> None:
            assert "evaluation/table" in values

        def save(self, path: str, base_path: str, policy: str) -> None:
            self.saved.append((str(Path(path).relative_to(base_path)), policy))

        def finish(self) -> None:
            pass

    class Logger:
        experiment = Run()

    shutil.copytree(FROZEN / "close", tmp_path / "close")
    wandb_table.log(Logger(), [example()], [], tmp_path / "close")
    kept = [(name, "now") for name in wandb_table.FILES[:2]]
    assert Logger.experiment.saved == kept
