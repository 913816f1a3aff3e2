"""A frozen tree of records gives exactly the tables that stand beside it.

Mixed recognisers, metric versions, seeds, missing pictures, a broken file, one of a newer schema, one with
`<script>` for a name. Where a table changes for a good reason: FDLAB_FREEZE=1 writes it anew; read the
difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdlab.errors import UserError
from fdlab.leaderboard import board, collect
from fdlab.leaderboard.evidence import Reader
from fdlab.leaderboard.tables import Board, Row
from fdlab.publishing import formats, latex, page_data

FROZEN = Path(__file__).with_name("frozen")
EXPECTED = Path(__file__).with_name("expected")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.chdir(FROZEN)
    return board.make(collect.group(collect.find([Path()])[0], "identity_similarity"))


def rows(made: Board) -> dict[str, Row]:
    return {row.entry.run: row for table in made.tables for row in table.rows}


@pytest.mark.parametrize(
    ("name", "write"),
    [("board.md", formats.markdown), ("board.csv", formats.as_csv), ("board.tex", latex.text)],
)
def test_tables_are_as_expected(frozen: Board, name: str, write: Callable[[Board], str]) -> None:
    if os.environ.get("FDLAB_FREEZE"):
        (EXPECTED / name).write_text(write(frozen))
    assert write(frozen) == (EXPECTED / name).read_text()


def test_what_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FROZEN)
    problems = sorted(collect.find([Path()])[1])
    assert len(problems) == 2
    assert "broken/evaluation/record.json" in problems[0] and "not valid JSON" in problems[0]
    assert "future/evaluation/record.json" in problems[1] and "a newer fdlab wrote" in problems[1]


def test_why_tables_are_apart(frozen: Board) -> None:
    assert [table.rows[0].entry.run for table in frozen.tables[1:]] == ["eyes", "versions", "else"]
    assert frozen.tables[0].apart == ""
    assert "identity_similarity is not measured alike" in frozen.tables[1].apart
    assert "mtcnn+dlib_resnet_centered" in frozen.tables[1].apart and "version 2" in frozen.tables[2].apart
    assert "their benchmarks differ" in frozen.tables[3].apart
    assert all(table.apart.startswith("not in table 1: ") for table in frozen.tables[1:])


def test_seeds_are_pooled_and_nothing_else(frozen: Board) -> None:
    pool = next(row for row in frozen.tables[0].rows if row.num_seeds > 1)
    assert {entry.run for entry in pool.entries} == {"seed1", "seed2", "seed3"}
    values = [entry.record["metrics"]["identity_similarity"]["value"] for entry in pool.entries]
    cell = pool.cells["identity_similarity"]
    assert cell.value == pytest.approx(np.mean(values)) and cell.spread == pytest.approx(
        np.std(values, ddof=1)
    )
    assert cell.low is not None and cell.high is not None and cell.low < cell.value < cell.high
    assert cell.num == 3 * 24
    assert all(row.num_seeds == 1 for row in rows(frozen).values() if row is not pool)


def test_marks_and_what_they_cost(frozen: Board) -> None:
    found = rows(frozen)
    words = {run: [mark.word for mark in row.marks] for run, row in found.items()}
    assert words["taught"] == ["taught by its judge"] and words["seen"] == ["saw these people"]
    assert words["few"] == ["incomplete"] and words["real"] == ["ceiling"]
    assert "4 of the benchmark's own people" in found["seen"].marks[0].text
    assert "18 of the 24 pictures" in found["few"].marks[0].text
    # Marked rows compete, but for those that cannot.
    for run in ("few", "unseen", "real"):
        assert found[run].rank is None and not found[run].on_front
    assert found["taught"].rank == (1, 1) and found["seen"].rank is not None
    assert found["unseen"].rank is None and found["unseen"].unranked == "no single pictures"
    # Few pictures, or none, stand last, whatever their values.
    ordered = [row.entry.run for row in frozen.tables[0].rows]
    assert ordered[-2:] == ["few", "unseen"] and ordered[0] == "real"


def test_ties_share_ranks(frozen: Board) -> None:
    ranks = {row.label.partition(" (")[0]: row.rank_text for row in frozen.tables[0].rows if row.rank}
    assert ranks == {
        "taught": "1", "average": "2-3", "SNF this run": "2-3", "seen": "4", "<script>alert(1)</script>": "5",
        "text alone": "6",
    }  # fmt: skip


def test_the_front_holds_whom_none_beats_in_both(frozen: Board) -> None:
    table = frozen.tables[0]
    assert table.axes == ("identity_similarity", "prompt_accuracy")
    racing = [row for row in table.rows if row.competes]
    points = {id(row): [row.cells[name].value for name in table.axes] for row in racing}
    for row in racing:
        beaten = any(
            other is not row and all(np.greater_equal(points[id(other)], points[id(row)]))
            and points[id(other)] != points[id(row)]
            for other in racing
        )  # fmt: skip
        assert row.on_front is not beaten
    assert 1 < sum(row.on_front for row in racing) < len(racing)


def test_repeats_of_one_measurement_are_one_row(tmp_path: Path) -> None:
    for run in ("a", "b"):
        shutil.copytree(FROZEN / "weak", tmp_path / run)
    shutil.copytree(FROZEN / "seed1", tmp_path / "c")
    # Another configuration but for the seed is another method.
    shutil.copytree(FROZEN / "seed2", tmp_path / "d")
    config = tmp_path / "d/config.yaml"
    config.write_text(config.read_text().replace("lr: 0.1", "lr: 0.2"))
    (table,) = board.make(collect.group(collect.find([tmp_path])[0])).tables
    assert sorted(len(row.entries) for row in table.rows) == [1, 1, 2]
    assert all(
        row.num_seeds == 1 and cell.spread is None for row in table.rows for cell in row.cells.values()
    )


def test_pictures_of_another_selection_are_not_paired(tmp_path: Path) -> None:
    for run in ("weak", "close", "taught"):
        shutil.copytree(FROZEN / run, tmp_path / run)
    path = tmp_path / "weak/evaluation/per_sample.jsonl"
    path.write_text(path.read_text().replace('"s0-p0-0"', '"s0-p9-0"'))
    found = rows(board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity")))
    assert found["weak"].rank is None and "other pictures" in found["weak"].unranked
    assert found["taught"].rank == (1, 1)


def test_a_value_that_its_pictures_do_not_give_has_no_rank(tmp_path: Path) -> None:
    for run in ("close", "taught"):
        shutil.copytree(FROZEN / run, tmp_path / run)
    path = tmp_path / "close/evaluation/record.json"
    made: dict[str, Any] = json.loads(path.read_text())
    made["metrics"]["identity_similarity"] |= {"value": 0.99, "ci_high": 1.0}
    path.write_text(json.dumps(made))
    found = rows(board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity")))
    assert found["close"].rank is None and "do not give" in found["close"].unranked


def forged(path: Path, name: str, **values: Any) -> None:
    made: dict[str, Any] = json.loads(path.read_text())
    made["metrics"][name] |= {"ci_low": None, "ci_high": None, **values}
    path.write_text(json.dumps(made))


@pytest.mark.parametrize("count", [24, 23])
def test_who_is_refuted_by_its_pictures_leads_nowhere_in_any_output(tmp_path: Path, count: int) -> None:
    """Not by the metric that orders either: a record with one forged number is not to be believed."""
    for run in ("close", "taught", "weak"):
        shutil.copytree(FROZEN / run, tmp_path / run)
    forged(tmp_path / "weak/evaluation/record.json", "prompt_accuracy", value=0.99, n=count)
    look = Reader()
    made = board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity"), (), look)
    row = rows(made)["weak"]
    assert row.rank is None and not row.competes and not row.on_front
    assert row.unranked == "its pictures do not give its numbers"
    assert "pictures give" in row.marks[-1].text
    assert "textbf{0.99" not in latex.text(made) and "its pictures do not" in latex.text(made)
    assert "its pictures do not give its numbers" in formats.markdown(made)
    shown = page_data.content(made, tmp_path, look)["tables"][0]["rows"]
    (on_page,) = (each for each in shown if each["label"] == row.label)
    assert not on_page["competes"] and not on_page["front"] and "do not give" in on_page["marks"][-1][0]
    assert rows(made)["taught"].on_front and rows(made)["taught"].rank == (1, 1)


def test_a_refuted_seed_takes_nothing_from_its_pool(tmp_path: Path) -> None:
    for run in ("seed1", "seed2", "seed3", "weak", "close"):
        shutil.copytree(FROZEN / run, tmp_path / run)
    forged(tmp_path / "seed2/evaluation/record.json", "identity_similarity", value=0.99)
    (table,) = board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity")).tables
    pool = next(row for row in table.rows if row.num_seeds == 2)
    assert {entry.run for entry in pool.entries} == {"seed1", "seed3"} and pool.rank is not None
    alone = next(row for row in table.rows if row.entry.run == "seed2")
    assert alone.rank is None and not alone.competes and not alone.on_front


def test_an_incomplete_seed_is_left_out_of_its_pool(tmp_path: Path) -> None:
    for run in ("seed1", "seed2", "seed3", "weak", "close"):
        shutil.copytree(FROZEN / run, tmp_path / run)
    path = tmp_path / "seed2/evaluation/record.json"
    made: dict[str, Any] = json.loads(path.read_text())
    for entry in made["metrics"].values():
        entry["n"] = 18
    path.write_text(json.dumps(made))
    (table,) = board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity")).tables
    pool = next(row for row in table.rows if row.num_seeds > 1)
    assert {entry.run for entry in pool.entries} == {"seed1", "seed3"} and pool.rank is not None
    alone = next(row for row in table.rows if row.entry.run == "seed2")
    assert alone.marks[0].word == "incomplete" and alone.rank is None


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_compiles_whatever_stands_in_labels(frozen: Board, tmp_path: Path) -> None:
    frozen.tables[0].rows[0].label = "\\input{x} $ & # % _ ^ ~ <é> {} [x] \"'` 中 ß 🙂 ± \x1b"
    source = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n%s\\end{document}\n"
    for n, row in enumerate(frozen.tables[0].rows[1:]):
        row.label = (
            f"SNF: TDM shipped + SDM shipped ({'seed0_benchmark-' * 5}{n}): alpha=0.2, beta={'9' * 30}"
        )
    frozen.tables[0].rows *= 2
    (tmp_path / "board.tex").write_text(source % latex.text(frozen))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and (tmp_path / "board.pdf").is_file(), done.stdout[-2000:]
    assert "Overfull" not in done.stdout and "Float too large" not in done.stdout


def test_an_unknown_metric_cannot_order(frozen: Board) -> None:
    with pytest.raises(UserError, match="Did you mean 'cmmd'"):
        collect.group([], by="cmmdd")
