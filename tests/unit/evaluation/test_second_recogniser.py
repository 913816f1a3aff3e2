"""A second recogniser scores the same pictures into a record of its own."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from fdlab.benchmarks import benchmark as benchmarks
from fdlab.benchmarks import jobs
from fdlab.evaluation import measuring, run
from fdlab.evaluation import second_recogniser as second
from fdlab.evaluation.rows import Row
from fdlab.leaderboard import collect
from fdlab.measure.choose import ExtractorSettings
from fdlab.measure.networks import Extractors
from fdlab.records import per_sample, record


def test_the_second_record_stands_beside_the_first(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    class Inverted(world.Faces):  # type: ignore[name-defined, misc]
        name, sha256 = "inverted", "4" * 64

        def embed(self, images_BHW3: np.ndarray, faces: Any) -> np.ndarray:
            return -super().embed(images_BHW3, faces)[:, ::-1]

    settings = {
        "kind": "folder",
        "name": "squares",
        "folder": str(folder),
        "batch_size": 8,
        "baselines": True,
    }
    limits = {"max_subjects": 0, "max_prompts": 0, "max_images": 0}
    cfg = OmegaConf.create(
        {
            "benchmark": {**settings, **limits},
            "trainer": {"accelerator": "cpu"},
            "paths": {"cache": str(tmp_path / "cache")},
        }
    )
    rows = [Row("snf", "SNF", lambda: world.Painter(wrong=0.2, missing=0.1))]
    first = run.evaluate(cfg, tmp_path / "run", rows, world.extractors())[0]

    assert second.prepare(ExtractorSettings(), benchmarks.load(folder), "cpu") is None
    benchmark = benchmarks.load(folder)
    extractors = Extractors(Inverted())
    judge = second.Second(extractors, measuring.references(benchmark, extractors))
    todo = jobs.jobs(benchmark)
    where = tmp_path / "run" / "evaluation"
    paths = [where / "images" / job.file for job in todo]
    written = judge.write(benchmark, todo, paths, where, first)

    assert record.read(where / "second" / "record.json") == written
    assert written["method"] == first["method"] and written["benchmark"] == first["benchmark"]
    assert {entry["extractor"]["name"] for entry in written["metrics"].values()} == {"inverted"}
    assert set(written["metrics"]) < set(first["metrics"]) and "clip_score" not in written["metrics"]
    # The same colours, turned about: the same people are nearest.
    rank = "identity_rank1"
    assert written["metrics"][rank]["value"] == first["metrics"][rank]["value"]
    row = per_sample.read(where / "second")[0]
    assert (where / "second" / row["file"]).is_file()
    entries = [
        collect.Entry(path, record.read(path)) for path in sorted((tmp_path / "run").rglob("record.json"))
    ]
    group = collect.Group(entries[0].basis)
    group.add(entries[0])
    assert len(entries) == 2 and not group.admits(entries[1])
    assert {entry.run for entry in entries} == {"run"}
