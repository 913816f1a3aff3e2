"""Boards of thousands of records. A minute of work: FDLAB_SLOW=1 runs it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdlab.leaderboard import board, collect, ranks
from fdlab.leaderboard.evidence import Reader
from fdlab.metrics import bootstrap
from fdlab.publishing import formats, page
from fdlab.records import record

pytestmark = pytest.mark.skipif(
    "FDLAB_SLOW" not in os.environ, reason="FDLAB_SLOW=1 makes thousands of records"
)
FACES, JUDGE = {"name": "mtcnn+x", "sha256": "1" * 64}, {"name": "judge:judge", "sha256": "2" * 64}


def write(root: Path, num: int, subjects: int, prompts: int, benchmarks: int) -> None:
    own_N = np.repeat(np.arange(subjects), prompts)
    for method in range(num):
        rng = np.random.default_rng(method)
        scores = {
            "identity_similarity": rng.normal(rng.normal(0.4, 0.1), 0.15, len(own_N)).clip(-1, 1).round(6),
            "prompt_accuracy": rng.choice([0.25, 0.5, 0.75, 1.0], len(own_N)),
        }
        rows: list[dict[str, Any]] = [
            {
                "id": f"s{who:02d}-p{n % prompts:02d}-0", "subject": f"s{who:02d}",
                "prompt": f"p{n % prompts:02d}", "index": 0, "category": "context",
                "text": f"a photo of a man, number {n % prompts}",
                "file": f"images/s{who:02d}-p{n % prompts:02d}-0.png",
                **{name: float(values_N[n]) for name, values_N in scores.items()},
            }
            for n, who in enumerate(own_N)
        ]  # fmt: skip
        metrics = {}
        for name, extractor in (("identity_similarity", FACES), ("prompt_accuracy", JUDGE)):
            found = bootstrap.mean(scores[name], own_N, 0)
            assert found is not None
            metrics[name] = record.metric(name, found, extractor)
        about = {
            "name": "b", "version": "1", "sha256": f"{method % benchmarks:064x}", "num_subjects": subjects,
            "num_prompts": prompts, "images_per_prompt": 1,
        }  # fmt: skip
        sampler = {"guider": "snf", "alpha": round(float(rng.random()), 3)}
        weights = {"sha256": f"{method:064x}"}
        made = record.build(
            about, {"name": "snf", "label": f"SNF {method}", "sampler": sampler, "sdm": weights}, metrics,
            {"kind": "measured", "created": "2026-01-01", "git_commit": "f" * 40, "fdlab_version": "0.1.0"},
        )  # fmt: skip
        folder = root / f"run{method:05d}" / "evaluation"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(made))
        (folder / "per_sample.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_ten_thousand_records_take_less_than_twenty_seconds(tmp_path: Path) -> None:
    write(tmp_path / "runs", 10_000, 4, 2, benchmarks=20)
    start, look = time.process_time(), Reader()
    made = board.make(collect.group(collect.find([tmp_path / "runs"])[0]), (), look)
    assert formats.markdown(made).count("\n| ") > 10_000
    page.write(made, tmp_path / "board.html", look)
    taken = time.process_time() - start
    assert taken < 20.0, taken
    assert sum(len(table.rows) for table in made.tables) == 10_000
    assert sum(row.rank is not None for table in made.tables for row in table.rows) == 20 * ranks.MOST


def test_a_page_of_500_rows_and_50_000_pictures_is_small(tmp_path: Path) -> None:
    write(tmp_path / "runs", 500, 20, 5, benchmarks=1)
    look = Reader()
    page.write(
        board.make(collect.group(collect.find([tmp_path / "runs"])[0]), (), look), tmp_path / "b.html", look
    )
    assert (tmp_path / "b.html").stat().st_size < 5_000_000
