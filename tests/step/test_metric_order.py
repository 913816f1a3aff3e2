"""The metrics, by the extractors that ship, order rendered people as they must; and nothing else moves them.

The pictures and faults are those of experiments/metrics, fewer and in fewer levels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.benchmarks.jobs import Job, jobs
from fdlab.evaluation import measuring, scoring
from fdlab.evaluation.measuring import Measured, References
from fdlab.measure import choose as loading
from fdlab.measure.networks import Extractors

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "metrics"
MODULES = ("faults", "pool", "worlds", "verdicts")


@dataclass
class Case:
    """A small world, its pictures measured once, and what the experiment does with them."""

    modules: dict[str, Any]
    bench: Benchmark
    todo: list[Job]
    known: References
    pool: Any

    @property
    def extractors(self) -> Extractors:
        return self.pool.extractors

    def values(self, measured: Measured) -> dict[str, float]:
        scored = self.modules["pool"].scored(self.bench, self.todo, measured, self.known, self.extractors)
        return {name: entry["value"] for name, entry in scored.items()}

    def levels(self, fault: str, *levels: float) -> dict[str, list[float]]:
        """Each metric's values: without the fault, then level by level."""
        faults, worlds = self.modules["faults"], self.modules["worlds"]
        world = worlds.World(self.bench.name.removesuffix("_metrics"), *self.size)
        listed = faults.single if world.size == 1 else faults.pairs
        known = {entry.name: entry for entry in [*faults.pixels(), *listed(world, self.bench, self.todo)]}
        chosen = known[fault]
        found = [self.values(self.pool.sets[worlds.DRAWN])]
        for level in levels:
            if chosen.change:
                name = f"{fault} {level:g}"
                self.pool.add(name, self.modules["pool"].spoilt(self.bench, self.todo, chosen, level))
                found.append(self.values(self.pool.sets[name]))
            else:
                found.append(self.values(self.pool.take(chosen.choice(level))))
        return {name: [values[name] for values in found if name in values] for name in found[0]}

    @property
    def size(self) -> tuple[int, int, int]:
        return len(self.bench.subjects), len(self.bench.prompts), self.bench.images_per_prompt


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(EXPERIMENT))
    try:
        yield {name: __import__(name) for name in MODULES}
    finally:
        sys.path.remove(str(EXPERIMENT))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def extractors() -> Extractors:
    return loading.shipped()


def case(modules: dict[str, Any], extractors: Extractors, folder: Path, world: Any, *sets: str) -> Case:
    worlds = modules["worlds"]
    bench = worlds.make(world, folder, (worlds.TRUE, worlds.DRAWN, *sets), workers=1)
    known = measuring.references(bench, extractors, show=False)
    made = Case(modules, bench, jobs(bench), known, modules["pool"].Pool(bench, extractors, {}))
    for name in (worlds.DRAWN, *sets):
        made.pool.add(name, worlds.paths(bench, name))
    if world.size == 1:
        references = [bench.folder / subject.references[0] for subject in bench.subjects]
        made.pool.add(modules["faults"].REFERENCE, references)
    return made


@pytest.fixture(scope="module")
def alone(modules: dict[str, Any], extractors: Extractors, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Four people, two prompts, two pictures of each."""
    world = modules["worlds"].World("people_single", 4, 2, images=2)
    return case(modules, extractors, tmp_path_factory.mktemp("alone"), world)


@pytest.fixture(scope="module")
def pairs(modules: dict[str, Any], extractors: Extractors, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three people, all pairs, two prompts."""
    worlds = modules["worlds"]
    world = worlds.World("people_multi", 3, 2)
    sets = (worlds.PLACES, worlds.MISSING, worlds.TWICE)
    return case(modules, extractors, tmp_path_factory.mktemp("pairs"), world, *sets)


def falls(values: list[float]) -> bool:
    return all(after < before for before, after in pairwise(values))


def rises(values: list[float]) -> bool:
    return falls([-value for value in values])


@pytest.mark.long
def test_blur_costs_likeness_and_distance(alone: Case) -> None:
    found = alone.levels("blur", 1.5, 4.0)
    assert found["identity_auc"][0] > 0.95
    for name in ("identity_similarity", "identity_heldout", "identity_margin"):
        assert falls(found[name]) and found[name][0] > found[name][2] + 0.4, name
    for name in ("frechet_distance", "kernel_distance", "cmmd"):
        assert rises(found[name]), name
    assert found["frechet_distance"][2] > 3 * found["frechet_distance"][0]


@pytest.mark.long
def test_other_people_cost_identity_alone(alone: Case) -> None:
    found = alone.levels("wrong person", 0.5, 1.0)
    for name in ("identity_similarity", "identity_heldout", "identity_margin", "identity_auc"):
        assert falls(found[name]), name
    assert found["identity_rank1"][0] > 0.9 and found["identity_rank1"][2] == 0.0
    for name in ("prompt_accuracy", "frechet_distance", "kernel_distance", "cmmd", "diversity"):
        assert found[name] == pytest.approx([found[name][0]] * 3, abs=1e-9), name


def test_other_prompts_cost_the_prompt_alone(alone: Case) -> None:
    found = alone.levels("wrong prompt", 0.5, 1.0)
    assert falls(found["prompt_accuracy"]) and falls(found["clip_score"])
    assert found["prompt_accuracy"][0] > 0.7 > 0.3 > found["prompt_accuracy"][2]
    for name in ("identity_similarity", "identity_auc", "copy_paste", "frechet_distance", "cmmd"):
        assert found[name] == pytest.approx([found[name][0]] * 3, abs=1e-9), name


def test_a_pasted_reference_is_told_from_a_likeness(alone: Case) -> None:
    found = alone.levels("reference pasted in", 0.5, 1.0)
    assert rises(found["copy_paste"]) and rises(found["identity_similarity"])
    assert abs(found["copy_paste"][0]) < 0.3
    assert found["copy_paste"][2] == pytest.approx(1.0, abs=1e-3)
    # Of what copying gains with the reference, less than half is gained with another picture of the person.
    gained = {name: found[name][2] - found[name][0] for name in ("identity_similarity", "identity_heldout")}
    assert gained["identity_heldout"] < gained["identity_similarity"] / 2
    assert falls(found["prompt_accuracy"])


def test_one_picture_for_all_is_no_set_of_pictures(alone: Case) -> None:
    found = alone.levels("one picture for all", 0.5, 1.0)
    assert found["diversity"][0] > 0.05 and found["diversity"][2] == pytest.approx(0.0, abs=1e-6)
    for name in ("frechet_distance", "kernel_distance", "cmmd"):
        assert rises(found[name]), name


@pytest.mark.long
def test_faults_of_pairs(pairs: Case) -> None:
    missing, twice, places = (
        pairs.levels(name, 0.5, 1.0) for name in ("one missing", "one person twice", "places changed")
    )
    assert missing["face_detection_rate"] == pytest.approx([1.0, 0.75, 0.5])
    assert missing["face_count_accuracy"] == pytest.approx([1.0, 0.5, 0.0])
    assert falls(missing["identity_similarity"]) and missing["identity_similarity_min"][2] == 0.0
    # Those who are there are as like as before.
    shown = missing["identity_similarity_detected"]
    assert shown[2] == pytest.approx(shown[0], abs=0.1)
    assert rises(twice["identity_blending"]) and twice["identity_blending"][2] > 0.2
    assert falls(twice["identity_similarity_min"]) and twice["face_count_accuracy"][2] > 0.8
    # Who stands where is nobody's fault: faces find their own, here and there.
    assert min(places["identity_similarity_min"]) > 0.4 and min(places["identity_auc"]) > 0.9
    for name in ("identity_similarity", "identity_similarity_min", "identity_blending"):
        assert places[name][2] == pytest.approx(places[name][0], abs=0.1), name


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.long
def test_neither_batch_nor_order_matters(alone: Case, batch_size: int) -> None:
    worlds = alone.modules["worlds"]
    paths = worlds.paths(alone.bench, worlds.DRAWN)
    expected, rows = scoring.score(
        alone.bench, alone.todo, alone.pool.sets[worlds.DRAWN], alone.known, alone.extractors
    )
    order = np.random.default_rng(batch_size).permutation(len(paths))
    shuffled_paths = [paths[k] for k in order]
    measured = measuring.measure(shuffled_paths, alone.extractors, alone.bench.size, batch_size, show=False)
    todo = [alone.todo[k] for k in order]
    found, shuffled = scoring.score(alone.bench, todo, measured, alone.known, alone.extractors)
    assert found.keys() == expected.keys()
    for name, entry in expected.items():
        for key in ("value", "ci_low", "ci_high", "n"):
            # Sums of another order round otherwise: distances are differences of large numbers.
            assert found[name][key] == pytest.approx(entry[key], rel=1e-4, abs=1e-4), (name, key)
    by_id = {row["id"]: row for row in shuffled}
    for row in rows:
        other = by_id[row["id"]]
        assert row["judged"] == other["judged"] and row["num_faces"] == other["num_faces"]
        for name in ("identity_similarity", "identity_heldout", "copy_paste", "clip_score", "diversity"):
            assert other[name] == pytest.approx(row[name], abs=1e-4), name
