"""Which people a training saw is said by its data, and travels with weights and records."""

from __future__ import annotations

import json
from pathlib import Path

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.data import layout, rendered, whom
from fdlab.models import finetuned
from fdlab.models.finetuned import Weights
from fdlab.people import benchmark as embedded


def test_rendered_people_are_a_span_of_numbers(tmp_path: Path) -> None:
    num = 400
    (tmp_path / rendered.COMPLETE).write_text(json.dumps(rendered.facts("all", num, 0, 128)))
    (span,) = whom.shown_by(tmp_path, "all").values()
    drawn = [n for k in range(num) for n, _ in rendered.spec_of("all", num, 0, k).people]
    assert span == [0, 49] and min(drawn) >= 0 and max(drawn) <= 49


def test_a_folder_of_photos_is_named_counted_and_digested(tmp_path: Path) -> None:
    layout.write_ids(tmp_path, ["b", "a"], test=["b"])
    all_of_it, half = whom.shown_by(tmp_path, "all"), whom.shown_by(tmp_path, "train")
    assert (all_of_it["folder"], all_of_it["num_pictures"], half["num_pictures"]) == (tmp_path.name, 2, 1)
    assert all_of_it["ids_sha256"] != half["ids_sha256"]


def test_spans_and_joins() -> None:
    assert whom.spans([5, 1, 2, 3, 9, 2]) == [[1, 3], [5, 5], [9, 9]] and whom.spans([]) == []
    first, second = {"rendered": [0, 3]}, {"folder": "x"}
    assert whom.joined([first], [second, first]) == [first, second]


def test_weights_and_benchmarks_say_it(tmp_path: Path) -> None:
    (tmp_path / finetuned.FACTS).write_text(json.dumps({"steps": 3, "people": [{"rendered": [0, 15]}]}))
    assert Weights("x", tmp_path, {}).describe()["people"] == [{"rendered": [0, 15]}]
    (tmp_path / finetuned.FACTS).write_text(json.dumps({"steps": 3}))
    assert "people" not in Weights("x", tmp_path, {}).describe()
    folder = tmp_path / "people_multi"
    made = benchmarks.parse(embedded.manifest("people_multi"), folder, folder / "benchmark.json")
    numbers = [s.identity for s in made.subjects if s.identity is not None]
    assert whom.spans(numbers) == [[1_000_000, 1_000_011]]
