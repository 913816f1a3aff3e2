from __future__ import annotations

from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.data import pictures
from fdlab.engine.ranks import Ranks
from fdlab.errors import UserError
from fdlab.evaluation import generation, measuring, scoring
from fdlab.measure.networks import Extractors


@pytest.fixture
def score(folder: Path, tmp_path: Path, world: ModuleType) -> Any:
    bench = benchmarks.load(folder)
    todo = jobs.jobs(bench)
    parts = world.extractors()
    known = measuring.references(bench, parts)
    folders = (tmp_path / f"method-{number}" for number in count())

    def run(method: Any, batch_size: int = 7) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        paths = generation.generate(todo, method, next(folders), show=False)
        measured = measuring.measure(paths, parts, bench.size, batch_size)
        return scoring.score(bench, todo, measured, known, parts)

    return run


@pytest.mark.parametrize("world_size", [3, 7])
def test_processes_share_the_measuring(folder: Path, world: ModuleType, world_size: int) -> None:
    """Five batches, of which some of seven processes have none: together they measure what one does."""
    bench, parts = benchmarks.load(folder), world.extractors()
    todo, known = jobs.jobs(bench), measuring.references(bench, parts)
    paths = [bench.real_path(job.group, job.prompt.id, job.index) for job in todo]
    shares: list[Any] = []

    class Later(Ranks):
        def gathered(self, own: Any) -> list[Any]:
            shares.insert(0, own)
            return shares

    for rank in reversed(range(world_size)):
        shared = measuring.measure(paths, parts, bench.size, 7, ranks=Later(rank, world_size))
    assert max(map(len, shares)) == -(-5 // world_size)
    alone = measuring.measure(paths, parts, bench.size, 7)
    assert scoring.score(bench, todo, shared, known, parts) == scoring.score(bench, todo, alone, known, parts)


def test_a_perfect_method(score: Any, world: ModuleType) -> None:
    metrics, rows = score(world.Painter())
    values = {name: entry["value"] for name, entry in metrics.items()}
    assert values["identity_auc"] == values["identity_rank1"] == values["face_detection_rate"] == 1.0
    assert values["prompt_accuracy"] == 1.0 and values["identity_similarity"] > 0.9
    assert values["identity_similarity"] == values["identity_similarity_detected"]
    assert -1 <= values["copy_paste"] <= 1 and abs(values["kernel_distance"]) < 0.05
    assert set(metrics) >= {"identity_margin", "identity_heldout", "clip_score", "frechet_distance", "cmmd"}
    for entry in metrics.values():
        assert entry["n"] == 32 and set(entry["extractor"]) == {"name", "sha256"}
    assert (
        len(rows) == 32
        and rows[0]["face"]["box"] == [4, 4, 12, 12]
        and rows[0]["prompt_correct"] == {"scene": True}
    )
    own = [row["similarity_to"][int(row["subject"][1:])] for row in rows]
    assert np.mean(own) == pytest.approx(values["identity_similarity"], abs=1e-5)


def test_identity_falls_with_wrong_people(score: Any, world: ModuleType) -> None:
    results = [score(world.Painter(wrong=share))[0] for share in (0.0, 0.25, 0.5, 1.0)]
    for name in (
        "identity_similarity",
        "identity_auc",
        "identity_rank1",
        "identity_margin",
        "identity_heldout",
    ):
        values = [metrics[name]["value"] for metrics in results]
        assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.3, name
        assert len(set(values)) == 4, name
    assert results[-1]["identity_rank1"]["value"] == 0.0
    assert {metrics["face_detection_rate"]["value"] for metrics in results} == {1.0}


def test_identity_falls_with_missing_faces_but_detected_does_not(score: Any, world: ModuleType) -> None:
    good, bad = (score(world.Painter(missing=share))[0] for share in (0.0, 0.5))
    rate = bad["face_detection_rate"]["value"]
    assert 0.2 < rate < 0.8
    assert bad["identity_similarity"]["value"] == pytest.approx(
        bad["identity_similarity_detected"]["value"] * rate
    )
    assert bad["identity_similarity_detected"]["value"] == pytest.approx(
        good["identity_similarity_detected"]["value"], abs=0.05
    )
    assert (
        bad["identity_similarity_detected"]["n"] == round(32 * rate) < bad["identity_similarity"]["n"] == 32
    )
    assert bad["identity_auc"]["value"] == pytest.approx(rate + (1 - rate) / 2, abs=0.01)


def test_no_face_at_all_is_absent_not_nan(score: Any, world: ModuleType) -> None:
    metrics, rows = score(world.Painter(missing=1.0))
    assert metrics["identity_similarity"]["value"] == metrics["face_detection_rate"]["value"] == 0.0
    assert not {"identity_similarity_detected", "identity_auc", "copy_paste"} & set(metrics)
    assert rows[0]["face"] is None and rows[0]["identity_similarity"] is None
    assert all(np.isfinite(entry["value"]) for entry in metrics.values())


def test_wrong_scene_lowers_prompt_metrics_only(score: Any, world: ModuleType) -> None:
    good, bad = score(world.Painter())[0], score(world.Painter(scene="beach"))[0]
    assert bad["prompt_accuracy"]["value"] == 0.5 and bad["clip_score"]["value"] < good["clip_score"]["value"]
    assert bad["frechet_distance"]["value"] > good["frechet_distance"]["value"]
    assert (
        bad["cmmd"]["value"] > good["cmmd"]["value"]
        and bad["kernel_distance"]["value"] > good["kernel_distance"]["value"]
    )
    assert bad["identity_rank1"]["value"] == good["identity_rank1"]["value"] == 1.0


def test_pasting_the_reference_raises_copy_paste_not_heldout(
    score: Any, world: ModuleType, folder: Path
) -> None:
    def paste(batch: list[jobs.Job]) -> np.ndarray:
        return np.stack([np.asarray(Image.open(folder / job.subject.references[0])) for job in batch])

    honest, pasted = score(world.Painter())[0], score(paste)[0]
    assert pasted["copy_paste"]["value"] == pytest.approx(1.0)
    assert pasted["copy_paste"]["value"] > honest["copy_paste"]["value"] + 0.3
    assert pasted["identity_similarity"]["value"] == pytest.approx(1.0)
    assert pasted["identity_heldout"]["value"] <= honest["identity_heldout"]["value"] + 0.02


def test_result_does_not_depend_on_batch_size(score: Any, world: ModuleType) -> None:
    method = world.Painter(wrong=0.3, missing=0.2)
    (small, small_rows), (large, large_rows) = score(method, 1), score(method, 32)
    assert small_rows == large_rows and small.keys() == large.keys()
    for name in small:
        assert small[name]["value"] == pytest.approx(large[name]["value"], abs=1e-12)


def test_rows_say_how_far_pictures_of_one_prompt_differ(
    score: Any, world: ModuleType, folder: Path, tmp_path: Path
) -> None:
    metrics, rows = score(world.Painter())
    assert "diversity" not in metrics
    # Against pictures read again: a picture's distance to the only other one of its person and prompt.
    features = world.Features()(
        pictures.read_images([tmp_path / "method-0" / Path(row["file"]).name for row in rows])
    )
    for n, row in enumerate(rows):
        (other,) = (
            k
            for k, sibling in enumerate(rows)
            if k != n and (sibling["subject"], sibling["prompt"]) == (row["subject"], row["prompt"])
        )
        a, b = features[n], features[other]
        expected = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert row["diversity"] == pytest.approx(expected, abs=1e-6)
        assert row["diversity"] > 0

    def same(batch: list[jobs.Job]) -> np.ndarray:
        return np.stack([world.picture(0, job.subject.id, job.prompt.id) for job in batch])

    assert {row["diversity"] for row in score(same)[1]} == {0.0}
    # One picture a prompt has no other to differ from.
    bench, parts = benchmarks.load(folder).limited(max_images=1), world.extractors()
    todo = jobs.jobs(bench)
    measured = measuring.measure(generation.generate(todo, same, tmp_path / "one"), parts)
    _, rows = scoring.score(bench, todo, measured, measuring.references(bench, parts), parts)
    assert not any("diversity" in row for row in rows)


def test_extractors_left_out_leave_their_metrics_out(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    bench = benchmarks.load(folder)
    todo = jobs.jobs(bench)
    parts = Extractors(judge=world.Judge())
    paths = generation.generate(todo, world.Painter(), tmp_path / "p")
    measured = measuring.measure(paths, parts, bench.size)
    metrics, _ = scoring.score(bench, todo, measured, measuring.references(bench, parts), parts)
    assert set(metrics) == {"prompt_accuracy"}


def test_one_subject_has_no_others(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    bench = benchmarks.load(folder).limited(1)
    todo = jobs.jobs(bench)
    parts = Extractors(faces=world.Faces())
    paths = generation.generate(todo, world.Painter(), tmp_path / "p")
    metrics, _ = scoring.score(
        bench, todo, measuring.measure(paths, parts), measuring.references(bench, parts), parts
    )
    assert "identity_similarity" in metrics and not {
        "identity_auc",
        "identity_rank1",
        "identity_margin",
    } & set(metrics)
    assert metrics["identity_similarity"]["ci_low"] is None


def test_bad_input_is_named(folder: Path, world: ModuleType) -> None:
    bench = benchmarks.load(folder)
    Image.fromarray(world.picture(None)).save(folder / "references/s01.png")
    with pytest.raises(UserError, match=r"no face found in reference .*references/s01\.png"):
        measuring.references(bench, world.extractors())

    class Broken(world.Features):  # type: ignore[name-defined, misc]
        def __call__(self, images_BHW3: np.ndarray) -> np.ndarray:
            return super().__call__(images_BHW3) * np.nan

    with pytest.raises(UserError, match="'thumbnails' gave features that are not finite"):
        measuring.measure([bench.real_path("s00", "p00", 0)], Extractors(features=Broken()))
