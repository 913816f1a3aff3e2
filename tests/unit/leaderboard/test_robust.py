"""Whatever stands in a record.json, either it is named as broken or every format prints it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fdlab.errors import UserError
from fdlab.leaderboard import collect, formats
from fdlab.metrics import registry
from fdlab.records import record

ODD: tuple[Any, ...] = (None, "x", "", 0, -1, 1.5, True, [], ["x"], {}, {"x": 1})


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a record, at any depth."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (*above, key)
        yield from places(value, (*above, key))


def test_no_odd_value_hides_the_other_records(make: Callable[..., Path], tmp_path: Path) -> None:
    good = record.read(make("good") / "evaluation/record.json")
    seen = {"refused": 0, "printed": 0}
    for place in places(good):
        for odd in ODD:
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
            for write in (formats.markdown, formats.as_json, formats.as_csv):
                assert write(groups, []), (place, odd)
            seen["printed"] += 1
    assert seen["refused"] > 100 and seen["printed"] > 100


def test_a_folder_called_record_json_is_named(make: Callable[..., Path], tmp_path: Path) -> None:
    make("good")
    (tmp_path / "bad" / "record.json").mkdir(parents=True)
    entries, problems = collect.find([tmp_path])
    assert len(entries) == 1 and len(problems) == 1 and "cannot be read" in problems[0]


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
    assert group.ordered_by in formats.shown(group)
    formats.show([group], [])
    label = registry.METRICS[group.ordered_by].label
    assert f"best {label} first" in " ".join(capsys.readouterr().out.split())
    assert f"best {label} first" in formats.markdown([group], [])
    assert json.loads(formats.as_json([group], []))["measured"][0]["ordered_by"] == group.ordered_by


def test_a_quoted_record_is_marked_in_its_row(make: Callable[..., Path], tmp_path: Path) -> None:
    def quote(made: Any, _: Any) -> None:
        made["provenance"] = {"kind": "quoted", "source": "a paper"}

    make("mine")
    make("theirs", edit=quote)
    text = formats.markdown(collect.group(collect.find([tmp_path])[0]), [])
    assert "| theirs (theirs, quoted) |" in text and "| mine (mine) |" in text
