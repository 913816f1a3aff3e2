"""What a record must bring to compete: pictures that bear it out, the same as the others'."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fdlab.leaderboard import asked, board, collect, ranks
from fdlab.leaderboard.evidence import Reader
from fdlab.leaderboard.tables import Board, Row
from fdlab.leaderboard.usual import Usual
from fdlab.metrics import bootstrap
from fdlab.publishing import formats, latex, page_data

FROZEN = Path(__file__).with_name("frozen")
HONEST = ("close", "taught", "weak", "seen", "script")


def made_of(root: Path) -> Board:
    return board.make(collect.group(collect.find([root])[0], "identity_similarity"))


def rows(made: Board) -> dict[str, Row]:
    return {row.entry.run: row for table in made.tables for row in table.rows}


def copied(root: Path, *runs: str) -> None:
    for run in runs:
        shutil.copytree(FROZEN / run, root / run)


def edit_record(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = run / "evaluation/record.json"
    made = json.loads(path.read_text())
    edit(made)
    path.write_text(json.dumps(made))


def edit_pictures(run: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    path = run / "evaluation/per_sample.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    edit(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def claim(name: str, value: float) -> Callable[[dict[str, Any]], None]:
    def edit(made: dict[str, Any]) -> None:
        made["metrics"][name] |= {"value": value, "ci_low": value, "ci_high": value}

    return edit


def without(*keys: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        edit_pictures(run, lambda lines: [line.pop(key, None) for line in lines for key in keys])

    return edit


@pytest.mark.parametrize(
    ("strip", "forged", "said"),
    [
        (lambda run: (run / "evaluation/per_sample.jsonl").unlink(), "identity_similarity", "were not kept"),
        (
            lambda run: (run / "evaluation/per_sample.jsonl").write_text("{broken"),
            "identity_similarity",
            "not valid",
        ),
        (
            without("identity_similarity", "prompt_accuracy", "face"),
            "identity_similarity",
            "no number in common",
        ),
        (without("identity_similarity", "face"), "identity_similarity", "none give its identity"),
        # The metric that orders is honest; another column and the front are none the less not to be had.
        (without("prompt_accuracy"), "prompt_accuracy", "none give its prompt"),
    ],
)
def test_who_shows_no_pictures_leads_nowhere(
    tmp_path: Path, strip: Callable[[Path], Any], forged: str, said: str
) -> None:
    copied(tmp_path, *HONEST)
    before = {run: (row.rank, row.on_front) for run, row in rows(made_of(tmp_path)).items()}
    shutil.copytree(tmp_path / "close", tmp_path / "liar")
    edit_record(tmp_path / "liar", claim(forged, 0.999))
    edit_record(tmp_path / "liar", lambda made: made["method"].update(label="liar"))
    strip(tmp_path / "liar")
    look = Reader()
    made = board.make(collect.group(collect.find([tmp_path])[0], "identity_similarity"), (), look)
    liar = rows(made).pop("liar")
    assert (liar.rank, liar.competes, liar.on_front, liar.unranked) == (
        None, False, False, "no single pictures"
    )  # fmt: skip
    assert said in liar.marks[-1].text and str(tmp_path) not in liar.marks[-1].text
    assert made.tables[0].rows[-1] is liar
    assert {r: (row.rank, row.on_front) for r, row in rows(made).items() if r != "liar"} == before
    assert not any(f"{emphasis}{{0.999" in latex.text(made) for emphasis in ("textbf", "underline"))
    assert "no single pictures" in formats.markdown(made)
    shown = page_data.content(made, tmp_path, look)["tables"][0]["rows"][-1]
    assert shown["label"].startswith("liar") and not shown["competes"] and shown["marks"]


def snake(lines: list[dict[str, Any]]) -> None:
    """Other subjects under the same ids, so that all have the same sum: the narrowest interval there is."""
    names = sorted({line["subject"] for line in lines})
    ranked = sorted(lines, key=lambda line: line["identity_similarity"] or 0.0)
    for place, line in enumerate(ranked):
        turn, column = divmod(place, len(names))
        line["subject"] = names[column if turn % 2 == 0 else len(names) - 1 - column]


def own_each(lines: list[dict[str, Any]]) -> None:
    for place, line in enumerate(lines):
        line["subject"] = f"u{place}"


def two(lines: list[dict[str, Any]]) -> None:
    for place, line in enumerate(lines):
        line["subject"] = f"u{place % 2}"


def other_prompts(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        line["text"] = "a face, seen from the front"


@pytest.mark.parametrize("lie", [snake, own_each, two, other_prompts])
def test_false_subjects_or_prompts_change_nobodys_rank(tmp_path: Path, lie: Callable[..., None]) -> None:
    copied(tmp_path, *HONEST)
    before = {run: row.rank for run, row in rows(made_of(tmp_path)).items()}
    shutil.copytree(tmp_path / "taught", tmp_path / "liar")
    edit_record(tmp_path / "liar", lambda made: made["method"].update(label="liar"))
    edit_pictures(tmp_path / "liar", lie)
    # Intervals are of these subjects, too: nothing but what pictures show is false.
    edit_record(
        tmp_path / "liar",
        lambda made: [entry.update(ci_low=None, ci_high=None) for entry in made["metrics"].values()],
    )
    found = rows(made_of(tmp_path))
    liar = found.pop("liar")
    assert {run: row.rank for run, row in found.items()} == before
    assert liar.rank is None and not liar.competes and liar.unranked == "other pictures than the others'"
    assert "picture s" in liar.marks[-1].text


def test_of_two_the_one_whose_pictures_are_called_by_what_they_show_is_believed(tmp_path: Path) -> None:
    copied(tmp_path, "taught", "weak")
    edit_pictures(tmp_path / "taught", two)
    edit_record(
        tmp_path / "taught",
        lambda made: [entry.update(ci_low=None, ci_high=None) for entry in made["metrics"].values()],
    )
    found = rows(made_of(tmp_path))
    assert not found["taught"].competes and found["weak"].competes
    assert found["weak"].unranked == "nothing to rank against"


def test_the_order_of_lines_is_no_matter(tmp_path: Path) -> None:
    copied(tmp_path, *HONEST, "seed1")
    before = {run: row.rank for run, row in rows(made_of(tmp_path)).items()}
    for run in HONEST[1:]:
        edit_pictures(tmp_path / run, random.Random(run).shuffle)
    assert {run: row.rank for run, row in rows(made_of(tmp_path)).items()} == before
    look = Reader()
    for entry in collect.find([tmp_path])[0]:
        drawn = look(entry).of("prompt_accuracy")
        original = collect.Entry(FROZEN / entry.run / "evaluation/record.json", entry.record)
        assert drawn is not None
        kept = look(original).of("prompt_accuracy")
        assert kept is not None and drawn.replicates_R == pytest.approx(kept.replicates_R)


@pytest.mark.parametrize("ends", [(0.62, 0.63), (0.1, 0.99), (0.5495645, 0.99)])
def test_an_interval_that_pictures_do_not_give_costs_the_rank(
    tmp_path: Path, ends: tuple[float, float]
) -> None:
    copied(tmp_path, *HONEST)
    edit_record(
        tmp_path / "close",
        lambda made: made["metrics"]["identity_similarity"].update(ci_low=ends[0], ci_high=ends[1]),
    )
    row = rows(made_of(tmp_path))["close"]
    assert row.rank is None and not row.competes and row.unranked == "its interval is not its pictures'"
    assert f"the record says [{ends[0]:.4g}, {ends[1]:.4g}], pictures give [0.5" in row.marks[-1].text


def test_a_pool_of_seeds_is_as_good_as_each_of_them(tmp_path: Path) -> None:
    copied(tmp_path, "seed1", "seed2", "seed3", *HONEST)
    edit_pictures(tmp_path / "seed2", snake)
    edit_record(
        tmp_path / "seed2",
        lambda made: [entry.update(ci_low=None, ci_high=None) for entry in made["metrics"].values()],
    )
    row = next(row for row in made_of(tmp_path).tables[0].rows if row.num_seeds == 3)
    assert not row.competes and row.marks[-1].text.startswith("seed2, one of 3 seeds: picture s")


def test_a_row_alone_has_no_rank_and_leads_nothing(tmp_path: Path) -> None:
    copied(tmp_path, "close")
    made = made_of(tmp_path)
    (row,) = made.tables[0].rows
    assert row.rank is None and row.competes and row.unranked == "nothing to rank against"
    assert "textbf" not in latex.text(made) and not row.on_front


def test_people_cannot_be_left_out(tmp_path: Path) -> None:
    copied(tmp_path, "seen", "weak")
    edit_record(tmp_path / "seen", lambda made: made["benchmark"].pop("people"))
    assert [mark.word for mark in rows(made_of(tmp_path))["seen"].marks] == ["saw these people"]


def test_a_copy_without_pictures_costs_nothing(tmp_path: Path) -> None:
    copied(tmp_path / "runs", "close", "weak")
    copied(tmp_path / "copies", "close")
    (tmp_path / "copies/close/evaluation/per_sample.jsonl").unlink()
    row = rows(made_of(tmp_path))["close"]
    assert row.rank == (1, 1) and len(row.entries) == 2 and row.entry.path.is_relative_to(tmp_path / "runs")


def test_people_count_once(tmp_path: Path) -> None:
    copied(tmp_path, "seen", "weak")
    spans = [{"rendered": [1000, 1003]}, {"rendered": [0, 1002]}, {"rendered": [1003, 1003]}]
    edit_record(tmp_path / "seen", lambda made: made["method"]["sdm"].update(people=spans))
    edit_record(tmp_path / "weak", lambda made: made["benchmark"].update(people=[[1000, 1003], [1002, 1005]]))
    (mark,) = rows(made_of(tmp_path))["seen"].marks
    assert mark.text == "trained on 4 of the benchmark's own people"


def test_rows_of_one_name_say_how_they_were_drawn(tmp_path: Path) -> None:
    for folder, alpha in (("first", 0.2), ("second", 0.4)):
        shutil.copytree(FROZEN / "weak", tmp_path / folder)
        edit_record(
            tmp_path / folder, lambda made, a=alpha: made["method"]["sampler"].update(alpha=a, beta=0.8)
        )
    labels = [row.label for row in made_of(tmp_path).tables[0].rows]
    assert sorted(labels) == ["text alone (first): alpha=0.2", "text alone (second): alpha=0.4"]


def test_rows_that_nothing_tells_apart_are_called_by_their_folders(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        shutil.copytree(FROZEN / "weak", tmp_path / folder / "run")
    edit_record(tmp_path / "first/run", lambda made: made["metrics"].pop("prompt_accuracy"))
    labels = [row.label for row in made_of(tmp_path).tables[0].rows]
    assert sorted(labels) == ["text alone (run): first/run", "text alone (run): second/run"]


def test_seeds_that_are_left_out_are_no_others() -> None:
    cells = (("p0", 0, ("s0",)),)
    plain = asked.Asked(("s0-p0-0",), cells, ((None, "a", None),))
    told = asked.Asked(("s0-p0-0",), cells, (("7", "a", None),))
    other = asked.Asked(("s0-p0-0",), cells, (("8", "a", None),))
    assert not told.differing(plain) and not plain.differing(told)
    assert told.differing(other) == "picture s0-p0-0 has another seed than that of most rows"
    assert asked.usual([other, told, told]) == told and asked.usual([]) is None


def of_random_pictures(root: Path, by: str = "clip_score") -> dict[str, Row]:
    return rows(board.make(collect.group(collect.find([root])[0], by)))


def without_values(key: str, picture: Callable[[dict[str, Any]], bool]) -> Callable[[Any, Any], None]:
    """Leave a score out of some pictures, and have the record say what the others give."""

    def edit(made: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line[key] = None if picture(line) else line[key]
        left = np.array([np.nan if line[key] is None else line[key] for line in lines])
        found = bootstrap.mean(left, np.array([int(line["subject"][1:]) for line in lines]), 0)
        assert found
        made["metrics"][key] |= {
            "value": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "n": found.num,
        }

    return edit


def test_bad_pictures_cannot_be_left_out(make: Callable[..., Path], tmp_path: Path) -> None:
    for n in range(3):
        make(f"honest{n}", seed=n)
    make("cheat", seed=9, edit=without_values("clip_score", lambda line: line["clip_score"] < 0.2))
    found = of_random_pictures(tmp_path)
    assert found["cheat"].cells["clip_score"].value > max(
        row.cells["clip_score"].value for run, row in found.items() if run != "cheat"
    )
    cheat = found.pop("cheat")
    assert cheat.rank is None and not cheat.competes and not cheat.on_front
    assert cheat.unranked == "pictures left out" and "that count for others" in cheat.marks[-1].text
    assert all(row.rank for row in found.values())


def test_misses_cannot_be_left_out(make: Callable[..., Path], tmp_path: Path) -> None:
    for n in range(3):
        make(f"honest{n}", seed=n, missed=(n,))
    missed = tuple(range(0, 24, 2))

    def edit(made: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        # As if only faces that were found had been asked for.
        made["metrics"]["identity_similarity"] = {
            **made["metrics"]["identity_similarity_detected"],
            "version": made["metrics"]["identity_similarity"]["version"],
        }

    make("cheat", seed=9, missed=missed, edit=edit)
    found = of_random_pictures(tmp_path, "identity_similarity")
    assert found["cheat"].unranked == "pictures left out"
    assert all(found[f"honest{n}"].rank for n in range(3))
    # What is of detected faces by its nature is no hole.
    assert all("detected" not in mark.text for row in found.values() for mark in row.marks)


def test_one_subject_alone_takes_nobody_s_rank(make: Callable[..., Path], tmp_path: Path) -> None:
    for n in range(3):
        make(f"honest{n}", seed=n)
    before = {
        run: row.rank for run, row in of_random_pictures(tmp_path, "identity_similarity_detected").items()
    }
    make("few", seed=8, missed=tuple(range(4, 24)))
    found = of_random_pictures(tmp_path, "identity_similarity_detected")
    assert found.pop("few").unranked == "too few subjects"
    assert {run: row.rank for run, row in found.items()} == before and all(before.values())


@pytest.mark.parametrize("name", ["a_copy", "z_copy"])
def test_a_copy_without_its_pictures_speaks_for_nobody(tmp_path: Path, name: str) -> None:
    copied(tmp_path, *HONEST)
    before = {run: row.rank for run, row in rows(made_of(tmp_path)).items()}
    shutil.copytree(tmp_path / "close", tmp_path / name)
    (tmp_path / name / "evaluation/per_sample.jsonl").write_text("garbage")
    assert {run: row.rank for run, row in rows(made_of(tmp_path)).items()} == before


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_stranger_is_no_seed(tmp_path: Path, elsewhere: bool) -> None:
    copied(tmp_path, "close", "weak", "seed1", "seed2", "seed3")
    before = next(row for row in made_of(tmp_path).tables[0].rows if row.num_seeds == 3)
    stranger = tmp_path / ("other/seed4" if elsewhere else "seed4")
    shutil.copytree(tmp_path / "seed3", stranger)
    edit_record(stranger, lambda made: made["provenance"].update(seed=9))
    edit_record(stranger, lambda made: made["method"]["sdm"].update(sha256="e" * 64))
    if elsewhere:
        edit_record(stranger, lambda made: made["provenance"].update(created="another day"))
    else:
        (stranger / "evaluation/per_sample.jsonl").unlink()
    found = next(row for row in made_of(tmp_path).tables[0].rows if row.num_seeds > 1)
    assert found.num_seeds == 3 and found.rank and found.cells == before.cells


def test_the_same_weights_are_no_seeds(tmp_path: Path) -> None:
    copied(tmp_path, "close", "seed1", "seed2", "seed3")
    first = json.loads((tmp_path / "seed1/evaluation/record.json").read_text())["method"]["sdm"]["sha256"]
    edit_record(tmp_path / "seed2", lambda made: made["method"]["sdm"].update(sha256=first))
    assert all(row.num_seeds == 1 for row in made_of(tmp_path).tables[0].rows)


def test_what_an_embedded_benchmark_asks_is_not_voted_on() -> None:
    about = {
        "name": "people_multi",
        "version": "1.1",
        "num_subjects": 3,
        "num_prompts": 2,
        "images_per_prompt": 1,
    }
    known = asked.Asked.of_benchmark(about)
    assert known is not None and len(known.ids) == 6 and known.agrees == 6
    assert known.cells[0] == ("p00", 0, ("s00", "s01"))
    other = replace(known, told=(("1", *known.told[0][1:]), *known.told[1:]))
    assert known.differing(other) == f"picture {known.ids[0]} has another seed than that of the benchmark"
    for more in ({"name": "mine"}, {"version": "0"}, {"num_subjects": 40}, {"num_prompts": 99}):
        assert asked.Asked.of_benchmark({**about, **more}) is None
    liars = [SimpleNamespace(asked=other, scored=None)] * 4
    assert Usual.of(liars, about).asked == known  # type: ignore[arg-type]


def test_where_ranks_end_is_said(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, strength in enumerate((0.9, 0.3, 0.31, 0.32, 0.33)):
        make(f"r{n}", strength, seed=n)
    whole = [row.rank_text for row in made_of(tmp_path).tables[0].rows]
    assert whole[0] == "1" and not any("+" in text for text in whole)
    monkeypatch.setattr(ranks, "MOST", 3)
    made = made_of(tmp_path)
    assert [row.rank_text for row in made.tables[0].rows] == ["1", "2-3+", "2-3+", "", ""]
    assert "some may stand as high" in formats.markdown(made)
