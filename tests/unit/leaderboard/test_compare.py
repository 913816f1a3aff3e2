from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdlab.errors import UserError
from fdlab.leaderboard import compare
from fdlab.leaderboard.compare import Comparison
from fdlab.publishing import compare_formats
from fdlab.records import per_sample, record

Make = Callable[..., Path]


def run(a: Path, b: Path) -> Comparison:
    return compare.compare(compare.locate(a), compare.locate(b))


def lines(made: Comparison) -> dict[str, compare.Line]:
    return {line.metric: line for line in made.lines}


def test_values_are_the_records_and_differences_theirs(make: Make) -> None:
    a, b = make("a", 0.1, 1, missed=(0, 5)), make("b", 0.6, 2, missed=(5, 7))
    made = run(a, b)
    found = lines(made)
    first, second = (record.read(x / "evaluation/record.json")["metrics"] for x in (a, b))
    for name in ("identity_similarity", "face_detection_rate", "identity_auc", "clip_score"):
        line = found[name]
        assert (line.a, line.b) == pytest.approx((first[name]["value"], second[name]["value"]), abs=1e-6)
        assert line.difference.value == pytest.approx(line.b - line.a) and line.difference.num == 24
        assert line.num_subjects == 6
    # Where a picture has no face in either, there is no pair: 24 without 0, 5 and 7.
    assert found["identity_similarity_detected"].difference.num == 21
    assert found["identity_similarity"].better == found["identity_auc"].better == "B"
    assert found["clip_score"].better == ""
    assert found["identity_auc"].superiority is None and set(made.left_out) == {"frechet_distance"}
    rows = [[r["identity_similarity"] or 0.0 for r in per_sample.read(x / "evaluation")] for x in (a, b)]
    won = found["identity_similarity"].superiority
    assert won and won.value == pytest.approx(
        np.mean([(y > x) + (x == y) / 2 for x, y in zip(*rows, strict=True)])
    )


def test_swapping_changes_signs(make: Make) -> None:
    a, b = make("a", 0.1, 1, missed=(3,)), make("b", 0.3, 2)
    forth, back = lines(run(a, b)), lines(run(b, a))
    for name, line in forth.items():
        other = back[name]
        assert (other.a, other.b) == (line.b, line.a)
        assert line.difference.low is not None and line.difference.high is not None
        assert (other.difference.value, other.difference.low, other.difference.high) == pytest.approx(
            (-line.difference.value, -line.difference.high, -line.difference.low), abs=1e-12
        )
        assert {line.better, other.better} in ({""}, {"A", "B"})


def test_the_order_of_rows_does_not_matter(make: Make) -> None:
    a = make("a", 0.1, 1)
    plain = run(a, make("b", 0.3, 2, missed=(2,)))
    shuffled = run(a, make("c", 0.3, 2, missed=(2,), edit=lambda _, rows: rows.reverse()))
    # Subjects are then named in another order, which the AUC sees; the rest pairs as before.
    for name, line in lines(shuffled).items():
        assert line.difference == lines(plain)[name].difference


def test_a_lower_distance_is_better(make: Make) -> None:
    def pasted(made: Any, rows: Any, shift: float) -> None:
        for n, row in enumerate(rows):
            row["copy_paste"] = round(0.01 * (n % 3) + shift, 6)
        value = float(np.mean([row["copy_paste"] for row in rows]))
        made["metrics"]["copy_paste"] = {
            **made["metrics"]["identity_similarity"], "value": value, "ci_low": None, "ci_high": None,
            "higher_is_better": False, "unit": "relative angle",
        }  # fmt: skip

    a = make("a", edit=lambda made, rows: pasted(made, rows, 0.5))
    b = make("b", edit=lambda made, rows: pasted(made, rows, 0.2))
    line = lines(run(a, b))["copy_paste"]
    assert line.difference.value == pytest.approx(-0.3) and line.better == "B"
    assert line.superiority and line.superiority.value == 1.0


def edited(path: str, value: Any) -> Callable[[Any, Any], None]:
    def edit(made: Any, _: Any) -> None:
        *parents, last = path.split("/")
        for key in parents:
            made = made[key]
        made[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited("benchmark/sha256", "b" * 64), r"their benchmarks differ: .*aaaaaaaaaa.* and .*bbbbbbbbbb"),
        (
            edited("metrics/clip_score/version", "2"),
            "clip_score is not measured alike: version 1 .* version 2",
        ),
        (
            edited("metrics/identity_auc/extractor", {"name": "arcface", "sha256": None}),
            "identity_auc is not measured alike: version 1 by faces .* by arcface",
        ),
        (edited("provenance", {"kind": "quoted", "source": "a paper"}), "is quoted"),
        (lambda made, rows: rows.pop(), "counts 24 pictures, its .* 23"),
        (lambda made, rows: rows[3].update(id="s99-p00-0"), "lacks picture 's00-p03-0' \\(1 in all\\)"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(make: Make, edit: Any, message: str) -> None:
    a, b = make("a"), make("b", edit=edit)
    with pytest.raises(UserError, match=message) as caught:
        run(a, b)
    assert "\n" not in str(caught.value)


def test_what_only_one_has_or_rows_do_not_give_is_left_out(make: Make) -> None:
    a = make("a")
    b = make("b", seed=1, edit=lambda made, rows: made["metrics"].pop("clip_score"))
    assert "clip_score" not in lines(run(a, b)) and "clip_score" not in run(a, b).left_out
    c = make("c", seed=1, edit=lambda made, rows: rows[0].update(clip_score=0.9))
    assert "pictures give" in run(a, c).left_out["clip_score"]


def test_locate_takes_a_file_a_record_folder_and_a_run(make: Make, tmp_path: Path) -> None:
    a = make("a")
    every = {compare.locate(a / name).path.resolve() for name in ("", "evaluation", "evaluation/record.json")}
    assert every == {(a / "evaluation/record.json").resolve()}
    assert compare.locate(tmp_path).run == "a"
    make("b")
    with pytest.raises(UserError, match=r"holds 2 records, such as .*a/evaluation.* and .*b/evaluation"):
        compare.locate(tmp_path)
    with pytest.raises(UserError, match=r"no record '.*gone'"):
        compare.locate(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no records"):
        compare.locate(tmp_path / "empty")


def test_formats_agree(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(make("a", 0.1, 1), make("b", 0.6, 2))
    data = json.loads(compare_formats.as_json(made))
    table = {line["metric"]: line for line in csv.DictReader(io.StringIO(compare_formats.as_csv(made)))}
    assert list(table) == list(data["metrics"]) == [line.metric for line in made.lines]
    for name, entry in data["metrics"].items():
        assert float(table[name]["difference"]) == entry["difference"]["value"]
        assert float(table[name]["ci_low"]) == entry["difference"]["ci_low"]
        assert table[name]["better"] == (entry["better"] or "")
    assert (
        table["identity_auc"]["superiority"] == "" and data["metrics"]["identity_auc"]["superiority"] is None
    )
    text = compare_formats.markdown(made)
    gain = data["metrics"]["identity_similarity"]["difference"]
    cell = f"{gain['value']:+.3f} [{gain['ci_low']:+.3f}, {gain['ci_high']:+.3f}]"
    assert f"| {cell} |" in text and "Not compared: frechet_distance" in text
    compare_formats.show(made)
    shown = capsys.readouterr().out
    assert f"{gain['value']:+.3f}" in shown and "identity ↑" in shown


def test_somebody_who_was_never_drawn_counts_as_missed(make: Make) -> None:
    a, b = make("a", missed=(0, 1, 2, 3)), make("b", seed=3)
    found = lines(run(a, b))
    assert found["identity_similarity"].difference.num == 24
    assert found["identity_similarity_detected"].difference.num == 20
