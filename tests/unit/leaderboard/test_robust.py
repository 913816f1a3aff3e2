"""Whatever stands in a record.json, either it is named as broken or every format prints it."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fdlab.cli import leaderboard as verb
from fdlab.errors import UserError
from fdlab.leaderboard import board, collect, compare, runs
from fdlab.metrics import registry
from fdlab.publishing import compare_formats, formats, latex
from fdlab.records import record
from tests.worlds.damage import places

ODD: tuple[Any, ...] = (None, "x", "", 0, -1, 1.5, True, [], ["x"], {}, {"x": 1}, 1e308, 10**400, "\ud800")


def test_no_odd_value_hides_the_other_records(make: Callable[..., Path], tmp_path: Path) -> None:
    good = record.read(make("good") / "evaluation/record.json")
    seen = {"refused": 0, "printed": 0}
    for number, place in enumerate(places(good)):
        # Every other value at every place, so that neighbours together have had all.
        for odd in ODD[number % 2 :: 2]:
            changed = copy.deepcopy(good)
            node = changed
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = odd
            path = tmp_path / "odd.json"
            path.write_text(json.dumps(changed))
            try:
                entry = collect.Entry(path, record.read(path))
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error), (place, odd)
                seen["refused"] += 1
                continue
            groups = collect.group([entry, collect.Entry(Path("good"), good)])
            shown = board.make(groups)
            for write in (formats.markdown, formats.as_json, formats.as_csv, latex.text):
                assert write(shown), (place, odd)
            seen["printed"] += 1
    assert seen["refused"] > 50 and seen["printed"] > 50


def deep(text: str) -> bytes:
    return text.replace('"packages": null', '"packages": ' + '{"a": ' * 300 + "1" + "}" * 300).encode()


DAMAGE: list[tuple[str, Callable[[Path, str], object], str]] = [
    ("empty", lambda path, text: path.write_bytes(b""), "not valid JSON"),
    ("torn", lambda path, text: path.write_text(text[: len(text) // 2]), "not valid JSON"),
    ("bad UTF-8", lambda path, text: path.write_bytes(b"\xff" + text.encode()), "not text in UTF-8"),
    ("UTF-16", lambda path, text: path.write_bytes(text.encode("utf-16")), "not text in UTF-8"),
    ("too deep", lambda path, text: path.write_bytes(deep(text)), "nested more than"),
    ("far too deep", lambda path, text: path.write_text("[" * 100_000), "nested too deeply"),
    ("a list", lambda path, text: path.write_text("[]"), "a list, not an object"),
    ("a folder", lambda path, text: (path.unlink(), path.mkdir()), "is no file"),
    ("a pipe", lambda path, text: (path.unlink(), os.mkfifo(path)), "is no file"),
    ("endless", lambda path, text: (path.unlink(), path.symlink_to("/dev/zero")), "is no file"),
    ("huge numbers", lambda path, text: path.write_text(text.replace("0.5", "9" * 400)), "digits"),
    ("a key twice", lambda path, text: path.write_text('{"metrics": {}, ' + text[1:]), "stands twice"),
    ("a surrogate", lambda path, text: path.write_text(text.replace('"now"', '"\\ud800"')), "no Unicode"),
]


def test_one_bad_record_ends_nothing(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever became of them, each costs one line, and the good one is shown."""
    make("good", 0.5)
    for n, (_, damage, _) in enumerate(DAMAGE):
        path = make(f"bad{n:02d}", 0.5) / "evaluation" / "record.json"
        damage(path, path.read_text().replace('"ci_low": null', '"ci_low": 0.5', 1))
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "record.json").symlink_to("nowhere")
    assert verb.main([str(tmp_path), "--format", "markdown", "--no-quoted"]) == 2
    out, err = capsys.readouterr()
    assert "| good (good) |" in out and out.count("(bad") == 0
    lines = sorted(err.splitlines())
    assert len(lines) == len(DAMAGE) + 1
    (gone,) = (line for line in lines if "gone/record.json" in line)
    assert "a link that leads nowhere" in gone
    for n, (name, _, said) in enumerate(DAMAGE):
        (line,) = (line for line in lines if f"bad{n:02d}" in line)
        assert line.startswith("error: record '") and said in line, name


def test_the_run_is_named_below_a_folder_called_evaluation(make: Callable[..., Path]) -> None:
    good = record.read(make("good") / "evaluation/record.json")
    for path, run in (
        ("/data/evaluation/runs/mine/evaluation/record.json", "mine"),
        ("/data/mine/evaluation/rows/sdm/record.json", "mine"),
        ("elsewhere/record.json", "elsewhere"),
        ("evaluation/record.json", "evaluation"),
    ):
        assert collect.Entry(Path(path), good).run == run


@pytest.mark.parametrize("by", ["frechet_distance", "clip_score", "cmmd", None])
def test_what_orders_a_table_is_said_and_shown(
    make: Callable[..., Path], tmp_path: Path, by: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a", 0.1, 1)
    make("b", 0.6, 2)
    (group,) = collect.group(collect.find([tmp_path])[0], by)
    # A metric that no record of the group has cannot order it.
    assert group.ordered_by == (by if by in ("frechet_distance", "clip_score") else "identity_auc")
    made = board.make([group])
    assert group.ordered_by in made.tables[0].short
    formats.show(made)
    label = registry.METRICS[group.ordered_by].label
    assert f"best {label} first" in " ".join(capsys.readouterr().out.split())
    assert f"best {label} first" in formats.markdown(made)
    assert json.loads(formats.as_json(made))["measured"][0]["ordered_by"] == group.ordered_by


def test_a_quoted_record_is_in_no_column_of_measured_ones(make: Callable[..., Path], tmp_path: Path) -> None:
    def quote(made: Any, _: Any) -> None:
        made["provenance"] = {"kind": "quoted", "source": "a paper"}

    make("mine")
    make("theirs", edit=quote)
    made = board.make(collect.group(collect.find([tmp_path])[0]))
    assert [row.label for table in made.tables for row in table.rows] == ["mine (mine)"]
    text = formats.markdown(made)
    measured, _, quoted = text.partition("## Quoted: ")
    assert "theirs" not in measured and "| theirs (quoted) |" in quoted and "| a paper |" in quoted
    # Nothing but quoted ones: no table of measured ones.
    (told,) = board.make(collect.group(collect.find([tmp_path / "theirs"])[0])).quoted
    assert told.rows[0]["source"] == "a paper"


def test_records_of_one_label_say_in_which_settings_they_differ(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    def sampled(base: str) -> Any:
        def edit(made: Any, _: Any) -> None:
            made["method"] |= {"label": "SDM shipped", "sampler": {"guider": "sdm", "base": base}}

        return edit

    for folder, base in (("a/run", "null"), ("b/run", "text")):
        make(folder, edit=sampled(base))
    text = formats.markdown(board.make(collect.group(collect.find([tmp_path])[0])))
    labels = [line.split("|")[2].strip() for line in text.splitlines() if "SDM shipped" in line]
    assert sorted(labels) == ["SDM shipped (run): base=null", "SDM shipped (run): base=text"]


@pytest.mark.parametrize("where", ["method", "configuration"])
def test_the_runs_of_a_grid_are_told_apart(
    make: Callable[..., Path], tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their names are long, and alike but for the end."""
    for n in range(3):

        def edit(made: Any, _: Any, n: int = n) -> None:
            made["method"] |= {"label": "SNF", "sampler": {"alpha": n / 4 if where == "method" else 0}}

        folder = make(f"seed0_benchmark-people_validation_sampler-snf_prompt_{n}45c94b", edit=edit)
        if where == "configuration":
            (folder / "config.yaml").write_text(f"seed: {n}\nsampler:\n  alpha: {n / 4}\n")
    made = board.make(collect.group(collect.find([tmp_path])[0]))
    (table,) = made.tables
    assert sorted(row.label.partition("): ")[2] for row in table.rows) == [f"alpha={n / 4}" for n in range(3)]
    assert all(len(row.label) < 60 and row.label.count("45c94b)") == 1 for row in table.rows)
    formats.show(made)
    shown = capsys.readouterr().out
    assert all(f"alpha={n / 4}" in shown for n in range(3))


EVIL = "[/red]<b>|=1+1\x1b[31m"


def test_labels_are_escaped_in_every_format(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(made: Any, _: Any) -> None:
        made["method"] |= {"name": "=x", "label": EVIL, "training_steps": "@SUM(A1)"}
        made["benchmark"]["name"] = f"={EVIL}"

    make("evil", edit=rename)
    (group,) = collect.group(collect.find([tmp_path])[0])
    text = formats.markdown(board.make([group]))
    assert r"\[/red\]\<b\>\|=1+1\\x1b\[31m (evil)" in text and "\x1b" not in text
    line = next(csv.DictReader(io.StringIO(formats.as_csv(board.make([group])))))
    assert line["benchmark"].startswith("'=[/red]") and line["training_steps"] == "'@SUM(A1)"
    assert line["method"] == "[/red]<b>|=1+1\\x1b[31m"
    formats.show(board.make([group]))
    assert "[/red]<b>|=1+1\\x1b[31m (evil)" in capsys.readouterr().out
    made = compare.compare(group.entries[0], group.entries[0])
    assert r"\[/red\]\<b\>\|" in compare_formats.markdown(made)
    compare_formats.show(made)
    assert "[/red]<b>|=1+1\\x1b[31m" in capsys.readouterr().out


def test_of_a_breakdown_only_what_can_be_is_believed(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).with_name("frozen") / "weak", tmp_path / "weak")
    groups = {
        "a": {"foo": {"value": 0.5, "n": 3}},
        "b": {"clip_score": {"value": 1e300, "n": 3}},
        "c": {"clip_score": {"value": 0.5, "n": 3, "ci_low": -7, "ci_high": 0.6}},
        "d": {"clip_score": {"value": 0.5, "n": 3, "ci_low": 0.4, "ci_high": 0.6}},
    }
    path = tmp_path / "weak/evaluation/breakdown.json"
    path.write_text(json.dumps({"by_category": groups, "by_attribute": {"age": {"old": groups["a"]}}}))
    (entry,), _ = collect.find([tmp_path])
    assert runs.breakdown_of(entry) == {"category": {"d": groups["d"]}}
