"""A whole evaluation with methods and extractors of the world of squares."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.errors import UserError
from fdlab.evaluation import run
from fdlab.evaluation.rows import Row
from fdlab.records import per_sample, record


def settings(folder: Path, cache: Path, **benchmark: Any) -> Any:
    given = {
        "kind": "folder", "name": "squares", "folder": str(folder), "max_subjects": 0, "max_prompts": 0,
        "max_images": 0, "batch_size": 8, "baselines": True, **benchmark,
    }  # fmt: skip
    return OmegaConf.create(
        {
            "benchmark": given,
            "trainer": {"accelerator": "cpu"},
            "paths": {"cache": str(cache)},
            "experiment": "<sdm> & co",
        }
    )


def rows(world: ModuleType) -> list[Row]:
    return [
        Row("real", "real", lambda: world.Painter(), is_real=True, shared=True),
        Row("wrong", "wrong & worse", lambda: world.Painter(wrong=0.6), {"training_steps": "5"}),
        Row("snf", "SNF", lambda: world.Painter(wrong=0.1, missing=0.1), {"training_steps": "1,000 + 150"}),
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, world: ModuleType) -> tuple[Path, list[dict[str, Any]]]:
    base = tmp_path_factory.mktemp("evaluation")
    world.write_benchmark(base / "bench")
    run_dir = base / "runs" / "name"
    (run_dir / "samples").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run_dir / "samples/step-10.png")
    (run_dir / "metrics.csv").write_text("step,loss,lr\n1,0.5,1\n2,0.4,\n3,0.3,1\n")
    cfg = settings(base / "bench", base / "cache")
    return run_dir, run.evaluate(cfg, run_dir, rows(world), world.extractors())


def test_files_are_the_contracts(done: tuple[Path, list[dict[str, Any]]]) -> None:
    run_dir, records = done
    main = record.read(run_dir / "evaluation/record.json")
    assert (
        main == records[-1]
        and main["method"]["name"] == "snf"
        and main["method"]["training_steps"] == "1,000 + 150"
    )
    assert len(list((run_dir / "evaluation/images").glob("*.png"))) == 32
    assert {p.name for p in (run_dir / "evaluation/figures").glob("*.png")} == {
        "pictures.png", "intervals.png", "similarity.png", "curves.png",
    }  # fmt: skip
    for name in ("real", "wrong"):
        folder = run_dir / "evaluation/rows" / name
        assert record.read(folder / "record.json")["method"]["name"] == name
        assert len(list((folder / "images").glob("*.png"))) == len(per_sample.read(folder)) == 32
    sample = per_sample.read(run_dir / "evaluation")[0]
    assert (run_dir / "evaluation" / sample["file"]).is_file()
    assert "frechet_distance" not in records[0]["metrics"] and "frechet_distance" in main["metrics"]
    assert records[0]["metrics"]["identity_auc"]["value"] > records[1]["metrics"]["identity_auc"]["value"]


def test_report_is_one_escaped_page(done: tuple[Path, list[dict[str, Any]]]) -> None:
    text = (done[0] / "report.html").read_text()
    assert "wrong &amp; worse" in text and "wrong & worse" not in text and "&lt;sdm&gt; &amp; co" in text
    assert text.count("data:image/png;base64,") == 5
    # Nothing outside the page is loaded; its links lead to every method's pictures.
    assert not re.search(r'src="(?!data:)', text) and "<link" not in text
    assert "<script" not in text and "@import" not in text
    links = set(re.findall(r'href="([^"]*)"', text))
    pages = [f"evaluation/{folder}samples.html" for folder in ("rows/real/", "rows/wrong/", "")]
    assert links == set(pages) and all((done[0] / link).is_file() for link in links)
    assert "By category (95 % intervals: subjects resampled)" in text and "<td>c1</td>" in text
    assert "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    assert "1,000 + 150" in text


def test_a_second_evaluation_draws_nothing(
    done: tuple[Path, list[dict[str, Any]]], world: ModuleType, tmp_path: Path
) -> None:
    records, base = done[1], done[0].parents[1]
    run_dir = shutil.copytree(done[0], tmp_path / "run")
    cfg = settings(base / "bench", base / "cache")

    def refuse() -> Any:
        raise AssertionError("drawn again")

    again = [Row(r.name, r.label, refuse, r.method, r.is_real, r.shared) for r in rows(world)]
    second = run.evaluate(cfg, run_dir, again, world.extractors())
    assert [r["metrics"] for r in second] == [r["metrics"] for r in records]
    # Another run shares what no run changes.
    run.evaluate(cfg, base / "other", [again[0]], world.extractors())
    assert len(list((base / "other/evaluation/images").glob("*.png"))) == 32


@pytest.mark.long
def test_a_killed_evaluation_goes_on(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    cfg = settings(folder, tmp_path / "cache")

    class Dies(world.Painter):  # type: ignore[name-defined, misc]
        def __call__(self, batch: Any) -> np.ndarray:
            if len(self.drawn) >= 16:
                raise KeyboardInterrupt
            return super().__call__(batch)

    with pytest.raises(KeyboardInterrupt):
        run.evaluate(cfg, tmp_path / "killed", [Row("snf", "SNF", Dies)], world.extractors())
    rest = world.Painter()
    resumed = run.evaluate(cfg, tmp_path / "killed", [Row("snf", "SNF", lambda: rest)], world.extractors())
    whole = run.evaluate(cfg, tmp_path / "whole", [Row("snf", "SNF", world.Painter)], world.extractors())
    assert len(rest.drawn) == 16 and resumed[0]["metrics"] == whole[0]["metrics"]
    a, b = (tmp_path / name / "evaluation/per_sample.jsonl" for name in ("killed", "whole"))
    assert a.read_text() == b.read_text()


def test_bad_settings_cost_nothing(folder: Path, tmp_path: Path, world: ModuleType) -> None:
    with pytest.raises(UserError, match=r"benchmark\.kind 'fodler'"):
        BenchmarkSettings.read(settings(folder, tmp_path, kind="fodler").benchmark)
    with pytest.raises(UserError, match=r"no benchmark\.json"):
        BenchmarkSettings.read(settings(tmp_path / "nowhere", tmp_path).benchmark).open()
    cfg = settings(folder, tmp_path)
    cfg.trainer.accelerator = "gpu"
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no GPU is here"):
            run.evaluate(cfg, tmp_path / "x", rows(world), world.extractors())


def test_curves_leave_empty_cells_out(done: tuple[Path, list[dict[str, Any]]]) -> None:
    from fdlab.records.figures import read_curves

    assert read_curves(done[0] / "metrics.csv") == {
        "loss": ([1, 2, 3], [0.5, 0.4, 0.3]),
        "lr": ([1, 3], [1, 1]),
    }


def test_records_are_plain_json(done: tuple[Path, list[dict[str, Any]]]) -> None:
    for record_ in done[1]:
        assert json.loads(json.dumps(record_, allow_nan=False)) == record_
