"""One registry: a metric is one file, and everything else follows from it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fdlab.metrics
from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.cli import leaderboard as verb
from fdlab.evaluation import generation, measuring, scoring
from fdlab.leaderboard import board, collect, compare
from fdlab.metrics import metric, registry
from fdlab.publishing import formats
from fdlab.records import breakdown, gallery, per_sample, record, report, table, wandb_table

TOY = '''
"""How bright pictures are, by CLIP's first feature."""

from fdlab.metrics.metric import Metric

METRICS = (
    Metric(
        "brightness", "bright <b>", "lux", False, lambda seen: seen.clip_ND[:, 0], ("clip",), "how bright",
        range=(0.0, 5.0), version="3", decimals=1, column=0.5, tile=0.5, rank=0.5,
    ),
)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[metric.Metric]:
    """A metric in a file of its own, found as any other is."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "toy_brightness.py").write_text(TOY)
    monkeypatch.setattr(fdlab.metrics, "__path__", [*fdlab.metrics.__path__, str(tmp_path / "rooms")])
    importlib.invalidate_caches()
    found = registry.discover()
    assert found.keys() - registry.SCORES.keys() == {"brightness"}
    for known in (registry.SCORES, registry.METRICS):
        monkeypatch.setitem(known, "brightness", found["brightness"])
    yield found["brightness"]
    import sys

    sys.modules.pop("fdlab.metrics.toy_brightness", None)


def evaluated(folder: Path, run: Path, method: Any, world: ModuleType) -> tuple[dict[str, Any], list[Any]]:
    bench, parts = benchmarks.load(folder), world.extractors()
    todo = jobs.jobs(bench)
    paths = generation.generate(todo, method, run / "evaluation/images", show=False)
    measured = measuring.measure(paths, parts, bench.size, show=False)
    known = measuring.references(bench, parts, show=False)
    entries, rows = scoring.score(bench, todo, measured, known, parts)
    made = record.build(bench.summary(), {"name": run.name}, entries, {"kind": "measured"})
    record.write(run / "evaluation", made, rows)
    return made, rows


def test_a_new_metric_is_one_file(
    toy: metric.Metric,
    folder: Path,
    tmp_path: Path,
    world: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, rows = evaluated(folder, tmp_path / "runs/dark", world.Painter(scene="beach"), world)
    evaluated(folder, tmp_path / "runs/bright", world.Painter(scene="forest"), world)
    # The record and its rows.
    entry = made["metrics"]["brightness"]
    assert (entry["unit"], entry["version"], entry["higher_is_better"]) == ("lux", "3", False)
    assert entry["value"] == pytest.approx(np.mean([row["brightness"] for row in rows]), abs=1e-6)
    assert entry["ci_low"] <= entry["value"] <= entry["ci_high"]
    path = tmp_path / "runs/dark/evaluation/record.json"
    assert record.read(path) == made
    # What belongs to the registry is checked by it.
    path.with_name("odd.json").write_text(json.dumps(made).replace('"lux"', '"lumen"'))
    with pytest.raises(ValueError, match="unit is 'lumen'; it is 'lux'"):
        record.read(path.with_name("odd.json"))
    # Rows again, by category, and on the page of pictures.
    found = per_sample.load(path, made)
    assert np.nanmean(found.values["brightness"]) == pytest.approx(entry["value"], abs=1e-6)
    parts = breakdown.content(made, found)
    assert all("brightness" in part for part in parts["by_category"].values())
    references = {s.id: folder / s.references[0] for s in benchmarks.load(folder).subjects}
    page = gallery.write(tmp_path / "runs/dark/evaluation", made, found, references).read_text()
    assert '"key":"brightness"' in page
    # Tables, first in the short one as it asks to be.
    head = table.markdown([made]).splitlines()[0]
    assert head.startswith("| method | training steps | bright <b> ↓ |")
    assert "brightness" in wandb_table.rows_of([made])[0]
    # The report: its tile comes first, its column too.
    report.write(tmp_path / "report.html", "toy", [made], "dark", [], (), None, parts)
    text = (tmp_path / "report.html").read_text()
    tiles = text[text.index('class="tiles"') :]
    assert tiles.index("bright &lt;b&gt;") < tiles.index("identity AUC") and "bright <b>" not in text
    # The leaderboard is ordered by it, and two methods are compared by it.
    monkeypatch.chdir(tmp_path)
    (group,) = collect.group(collect.find([Path("runs")])[0])
    assert group.ordered_by == "brightness" and [e.run for e in group.entries] == ["dark", "bright"]
    assert r"best bright \<b\> first" in formats.markdown(board.make([group]))
    # And the list of metrics has it.
    assert verb.main(["--metrics"]) == 0
    assert "| brightness | lux | 0 | 5 | lower | clip | how bright |" in capsys.readouterr().out
    first = compare.compare(*group.entries).lines[-1]
    assert first.metric == "brightness" and first.better == "A"


def test_what_cannot_be_had_is_left_out(toy: metric.Metric, world: ModuleType) -> None:
    seen = metric.Measurements(np.zeros((2, 1), int), np.zeros((2, 1), int))
    assert not toy.possible(seen)
    assert [m.name for m in registry.scored() if m.possible(seen)] == []


@pytest.mark.parametrize(
    ("needs", "unit", "message"), [(("ears",), "share", "needs one of"), (("clip",), "lux", "give its range")]
)
def test_a_metric_says_what_it_needs_and_in_which_unit(
    needs: tuple[str, ...], unit: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric.Metric("odd", "odd", unit, True, lambda seen: None, needs)


def test_a_name_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_again.py").write_text("from fdlab.metrics.clip_score import METRICS\n")
    monkeypatch.setattr(fdlab.metrics, "__path__", [*fdlab.metrics.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="'clip_score' is defined twice"):
        registry.discover()


def test_tables_keep_their_order() -> None:
    assert registry.short() == [
        "identity_similarity", "identity_similarity_min", "identity_blending", "identity_auc",
        "identity_rank1", "face_detection_rate", "face_count_accuracy", "prompt_accuracy", "clip_score",
        "frechet_distance",
    ]  # fmt: skip
    assert list(registry.METRICS) == [
        "identity_similarity", "identity_similarity_detected", "face_detection_rate", "identity_margin",
        "identity_rank1", "identity_auc", "identity_similarity_min", "identity_blending",
        "face_count_accuracy", "identity_heldout", "copy_paste", "clip_score", "fid", "frechet_distance",
        "kernel_distance", "cmmd", "prompt_accuracy",
    ]  # fmt: skip
    assert registry.whole() == [
        *registry.short(), "identity_similarity_detected", "identity_margin", "identity_heldout",
        "copy_paste", "fid", "kernel_distance", "cmmd",
    ]  # fmt: skip
    assert registry.tiles() == [
        "identity_auc", "identity_similarity", "identity_rank1", "face_detection_rate", "prompt_accuracy",
        "clip_score",
    ]  # fmt: skip
    assert registry.ranked() == [
        "identity_auc", "identity_similarity", "prompt_accuracy", "clip_score", "frechet_distance", "cmmd",
    ]  # fmt: skip


def test_records_and_rows_keep_their_order(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    made, rows = evaluated(folder, tmp_path / "run", world.Painter(), world)
    assert list(made["metrics"]) == [
        "identity_similarity", "identity_similarity_detected", "face_detection_rate", "face_count_accuracy",
        "identity_margin", "identity_rank1", "identity_heldout", "copy_paste", "identity_auc", "clip_score",
        "prompt_accuracy", "frechet_distance", "kernel_distance", "cmmd",
    ]  # fmt: skip
    assert list(rows[0])[9:] == [
        "num_faces", "face", "similarity_to", "face_count_accuracy", "identity_similarity", "identity_margin",
        "identity_rank1", "identity_heldout", "copy_paste", "clip_score", "judged", "prompt_correct",
        "prompt_accuracy", "diversity",
    ]  # fmt: skip


def test_records_of_several_subjects_keep_their_order(tmp_path: Path, crowd: ModuleType) -> None:
    crowd.write_benchmark(tmp_path / "bench")
    made, rows = evaluated(tmp_path / "bench", tmp_path / "run", crowd.Painter(), crowd)
    assert list(made["metrics"]) == [
        "identity_similarity", "identity_similarity_detected", "face_detection_rate", "face_count_accuracy",
        "identity_similarity_min", "identity_blending", "identity_margin", "identity_rank1",
        "identity_heldout", "copy_paste", "identity_auc",
    ]  # fmt: skip
    assert list(rows[0])[9:] == [
        "num_faces", "faces", "matches", "face_count_accuracy", "identity_similarity",
        "identity_similarity_min", "identity_blending", "identity_margin", "identity_rank1",
        "identity_heldout", "copy_paste",
    ]  # fmt: skip
    places = [metric.recorded for metric in registry.scored() if metric.recorded is not None]
    # An FID is never beside another Frechet distance.
    assert sorted(set(places)) == [*range(1, 17)] and len(places) == 17
