"""A few dozen damaged records and rows of each kind; 2,000 of each were tried by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fdlab.errors import UserError
from fdlab.leaderboard import board, collect
from fdlab.publishing import formats, latex
from fdlab.records import breakdown, gallery, per_sample, record, report
from tests.worlds import damage


@pytest.fixture
def written(squares: Path) -> dict[str, Any]:
    return record.read(squares / "evaluation/record.json")


def refused(error: UserError, path: Path) -> None:
    assert path.name in str(error) and str(error).isprintable() and len(str(error)) < 1000


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_record_is_named_or_printed(tmp_path: Path, written: dict[str, Any], seed: int) -> None:
    path = tmp_path / "record.json"
    good = collect.Entry(Path("good"), written)
    num_refused = 0
    for data in damage.files(written, seed, 40):
        path.write_bytes(data)
        try:
            entry = collect.Entry(path, record.read(path))
        except UserError as error:
            refused(error, path)
            num_refused += 1
            continue
        groups = collect.group([entry, good])
        made = board.make(groups)
        for write in (formats.markdown, formats.as_json, formats.as_csv, latex.text):
            write(made).encode()
        report.write(tmp_path / "report.html", "t", [entry.record], entry.record["method"]["name"], [])
    assert num_refused > 20
    assert {file.name for file in tmp_path.iterdir()} <= {"record.json", "report.html"}


def lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else json.dumps(rows)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_rows_are_named_or_counted(
    tmp_path: Path, squares: Path, written: dict[str, Any], seed: int
) -> None:
    rows = per_sample.read(squares / "evaluation")[:8]
    path = tmp_path / record.PER_SAMPLE
    num_refused = 0
    for data in damage.files(rows, seed, 40, lines):
        path.write_bytes(data)
        try:
            found = per_sample.arrays(per_sample.read(tmp_path), written["metrics"])
        except UserError as error:
            refused(error, path)
            num_refused += 1
            continue
        breakdown.content(written, found)
        gallery.states(found)
    assert num_refused > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": 3}, "has id 3, no text"),
        ({"index": -1}, "has index -1"),
        ({"index": True}, "has index True"),
        ({"subjects": "s00"}, "has subjects 's00', no list"),
        ({"subjects": ["a", "b"], "matches": []}, "another number of subjects"),
        ({"clip_score": 1.5}, "has clip_score 1.5; allowed: null, or a number from -1 to 1"),
        ({"identity_rank1": "1"}, "has identity_rank1 '1'"),
        ({"diversity": 2.1}, "has diversity 2.1"),
        ({"face": {"box": [0, 0, 1], "score": 1.0}}, "not four numbers"),
        ({"face": {"box": [0, 0, 1, 1e9], "score": 1.0}}, "not four numbers"),
        ({"face": {"box": [0, 0, 1, 1], "score": 2}}, "score 2, no number from 0 to 1"),
        ({"face": [1]}, "faces that are no objects"),
        ({"similarity_to": [2.0]}, "no list of cosines"),
        ({"matches": [{"subject": "s00", "face": 7, "identity_similarity": None}]}, "match with face 7"),
        ({"matches": [{"subject": "s00", "face": 0}]}, "a match without"),
        ({"matches": [{"subject": "s", "face": None, "identity_similarity": 9}]}, "identity_similarity 9"),
        ({"matches": [{}, {}]}, "not one for each subject"),
        ({"file": None}, "has file None, no text"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(
    tmp_path: Path, squares: Path, change: dict[str, Any], said: str
) -> None:
    first, second, *_ = per_sample.read(squares / "evaluation")
    (tmp_path / record.PER_SAMPLE).write_text(lines([first, {**second, **change}]))
    with pytest.raises(UserError, match=f"line 2 .*{said}"):
        per_sample.read(tmp_path)
