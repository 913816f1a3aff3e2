"""Quoted numbers: what the file must say, and that none stands among measured ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fdlab.errors import UserError
from fdlab.leaderboard import board, collect, published
from fdlab.metrics.bootstrap import Estimate
from fdlab.publishing import formats
from fdlab.records import record
from tests.worlds import damage

RAW = yaml.safe_load(published.DEFAULT.read_text())


def test_what_ships_says_whose_where_and_what_is_unverified() -> None:
    entries = {entry.id: entry for entry in published.load(published.DEFAULT)}
    assert set(entries) == {"fastcomposer_single", "instantfamily_single", "freecure"}
    for entry in entries.values():
        assert entry.unverified and entry.source["paper"] and entry.source["arxiv"]
        assert all(f"arXiv {entry.source['arxiv']}" in row["source"] for row in entry.rows)
        first = [row[next(iter(entry.columns))] for row in entry.rows]
        assert first == sorted(first, reverse=True)
    fastcomposer = {row["method"]: row for row in entries["fastcomposer_single"].rows}
    assert fastcomposer["FastComposer"]["source"].endswith("Table 4, as measured by FastComposer")
    # The paper's own tables could not be read: no number is given for them.
    assert not any("Face-diffuser" in json.dumps(entry) for entry in RAW if entry["id"] != "freecure")


def test_harmonic_means_agree_with_the_columns_they_are_of() -> None:
    """A slip of the pen in any of the three columns would show."""
    (freecure,) = (entry for entry in published.load(published.DEFAULT) if entry.id == "freecure")
    assert len(freecure.rows) == 8
    for row in freecure.rows:
        assert row["mean"] == pytest.approx(2 / (1 / row["prompt"] + 1 / row["identity"]), abs=0.011)


def changed(path: str, value: Any) -> Any:
    data = copy.deepcopy(RAW)
    node: Any = data
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("0/source", None, "entry 1 lacks 'source'"),
        ("0/source/arxiv", None, "source lacks 'arxiv'"),
        ("0/source/arxiv", 2307.11410, "source.arxiv is 2307.1141; it must be text"),
        ("1/unverified", [], "source.table is not known; 'unverified' must say so"),
        ("0/rows/2/measured_by", None, "row 3 lacks 'measured_by'"),
        ("0/rows/2/identity", 27.3, "identity is 27.3; allowed: a number from -1 to 1"),
        ("0/rows/2/identity", True, "identity is True"),
        ("0/rows/2/promt", 0.2, "unknown key 'promt'; .*Did you mean 'prompt'"),
        ("0/rows/2/references", -1, "references is -1"),
        ("0/columns/prompt/unit", "cosin", "unknown unit 'cosin'; .*Did you mean 'cosine'"),
        ("0/columns/prompt/higher_is_better", "yes", "allowed: true, false"),
        ("0/counts/num_subjects", "15", "num_subjects is '15'"),
        ("0/id", "freecure", "id 'freecure' stands there twice"),
        ("0/rows", [], "one row or more"),
        ("0", "text", "entry 1 is a str"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, path: str, value: Any, message: str) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(UserError, match=message) as caught:
        published.load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def put(root: Path, name: str, run: str, **benchmark: Any) -> None:
    about = {
        "name": name, "version": "1", "sha256": run[0] * 64, "num_subjects": 15, "num_prompts": 40,
        "images_per_prompt": 4, **benchmark,
    }  # fmt: skip
    entry = record.metric("identity_similarity", Estimate(0.4, 0.3, 0.5, 8), {"name": "x", "sha256": "0"})
    made = record.build(
        about, {"name": run}, {"identity_similarity": entry}, {"kind": "measured", "created": "now"}
    )
    record.write(root / run / "evaluation", made, [])


def test_a_quoted_table_stands_below_its_own_protocol_alone(tmp_path: Path) -> None:
    put(tmp_path, "fastcomposer_single", "a_same", profile="fastcomposer")
    put(tmp_path, "fastcomposer_single", "b_other_profile", profile="strict")
    put(tmp_path, "fastcomposer_single", "c_no_profile")
    put(tmp_path, "fastcomposer_single", "d_fewer", profile="fastcomposer", num_subjects=3)
    put(tmp_path, "people_single", "e_other", profile="fastcomposer")
    groups = collect.group(collect.find([tmp_path])[0])
    quoted = published.load(published.DEFAULT)
    made = board.make(groups, quoted)
    placed: dict[str | None, list[str]] = {
        table.rows[0].entry.run: [entry.id for entry in table.quoted] for table in made.tables
    }
    placed[None] = [entry.id for entry in made.quoted]
    assert placed == {
        "a_same": ["fastcomposer_single", "instantfamily_single"], "b_other_profile": [], "c_no_profile": [],
        "d_fewer": [], "e_other": [], None: ["freecure"],
    }  # fmt: skip
    text = formats.markdown(made)
    # No table of measured numbers holds a quoted row.
    for part in text.split("## ")[1:]:
        assert part.startswith("Quoted: ") == ("(quoted)" in part)
    data = json.loads(formats.as_json(made))
    same = {entry["id"]: entry["same_protocol"] for entry in data["quoted"]}
    assert same == {"fastcomposer_single": ["a" * 64], "instantfamily_single": ["a" * 64], "freecure": []}


def test_deviations_and_references_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    quoted = published.load(published.DEFAULT)
    text = formats.markdown(board.make([], quoted))
    assert "| InstantID (quoted) | 0.688 ± 0.249 | 0.228 ± 0.042 | InstantFamily (arXiv 2404.19427) |" in text
    assert "| DreamBooth (quoted) | 5 | 0.273 | 0.239 |" in text and "Unverified: " in text
    formats.show(board.make([], quoted))
    shown = capsys.readouterr().out
    assert "0.688 ± 0.249" in shown and "QUOTED, not measured here" in shown


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_are_named_or_printed(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "published.yaml"
    rng = np.random.default_rng(seed)
    by_bytes = [damage.damaged(published.DEFAULT.read_bytes(), rng) for _ in range(15)]
    parts = yaml.safe_load(published.DEFAULT.read_text())[:2]
    for data in [*damage.files(parts, seed, 30), *by_bytes]:
        path.write_bytes(data)
        try:
            quoted = published.load(path)
        except UserError as error:
            assert str(error).isprintable() and path.name in str(error) and len(str(error)) < 1000
            continue
        for write in (formats.markdown, formats.as_json, formats.as_csv):
            write(board.make([], quoted)).encode()


def test_a_column_may_not_take_the_place_of_what_rows_say(tmp_path: Path) -> None:
    text = published.DEFAULT.read_text()
    (tmp_path / "p.yaml").write_text(text.replace("identity:", "source:"))
    with pytest.raises(UserError, match="no column may be called 'source'"):
        published.load(tmp_path / "p.yaml")
