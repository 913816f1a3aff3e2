from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fdlab.errors import UserError
from fdlab.metrics import registry
from fdlab.metrics.bootstrap import Estimate
from fdlab.records import per_sample, record, table

EXTRACTOR = {"name": "squares", "sha256": "0" * 64}


def example(name: str = "snf", auc: float = 0.8) -> dict[str, Any]:
    benchmark = {
        "name": "squares", "version": "1", "sha256": "a" * 64, "num_subjects": 4,
        "num_prompts": 2, "images_per_prompt": 1,
    }  # fmt: skip
    metrics = {
        "identity_auc": record.metric("identity_auc", Estimate(auc, auc - 0.1, auc + 0.1, 8), EXTRACTOR),
        "frechet_distance": record.metric("frechet_distance", Estimate(12.5, None, None, 8), EXTRACTOR),
    }
    provenance = {
        "kind": "measured", "source": "test", "fdlab_version": "0", "git_commit": None, "git_dirty": None,
        "config_sha256": "b" * 64, "packages": {}, "device": "cpu", "seconds": 1.0, "seed": 0,
        "image_format": "png",
        "created": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return record.build(
        benchmark, {"name": name, "label": f"the {name}", "training_steps": "10"}, metrics, provenance
    )


def test_record_has_every_key_of_the_contract() -> None:
    made = example()
    assert list(made) == ["schema_version", "benchmark", "method", "metrics", "provenance"]
    assert made["schema_version"] == 1
    assert {"name", "backbone", "sampler", "tdm", "sdm"} <= set(made["method"])
    entry = made["metrics"]["identity_auc"]
    assert set(entry) == {
        "value",
        "ci_low",
        "ci_high",
        "n",
        "unit",
        "higher_is_better",
        "version",
        "extractor",
    }
    assert (
        entry["higher_is_better"] is True and made["metrics"]["frechet_distance"]["higher_is_better"] is False
    )
    assert set(record.PROVENANCE_KEYS) <= set(made["provenance"])


def test_names_of_metrics_are_the_contracts() -> None:
    assert set(registry.METRICS) == {
        "identity_similarity", "identity_similarity_detected", "face_detection_rate", "identity_margin",
        "identity_rank1", "identity_auc", "identity_similarity_min", "identity_blending",
        "face_count_accuracy",
        "identity_heldout", "copy_paste", "clip_score", "fid", "frechet_distance", "kernel_distance", "cmmd",
        "prompt_accuracy",
    }  # fmt: skip


def test_write_and_read(tmp_path: Path) -> None:
    made = example()
    rows = [{"id": name, "prompt": "p", "index": 0, "subject": "s", "clip_score": None} for name in "ab"]
    path = record.write(tmp_path / "evaluation", made, rows)
    assert record.read(path) == made
    assert per_sample.read(tmp_path / "evaluation") == rows


def broken(path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(example())
    node: Any = made
    *parents, last = path.split("/")
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return made


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("schema_version", 2, "schema_version is 2"),
        ("metrics", None, "'metrics' is missing"),
        ("benchmark/sha256", None, "benchmark.sha256 is missing"),
        ("provenance/created", None, "provenance.created is missing"),
        ("provenance/kind", "guessed", "allowed: measured, quoted"),
        ("metrics/identity_auc/value", "0.8", "not a finite number"),
        ("metrics/identity_auc/n", 0, "counts images"),
        ("metrics/identity_auc/ci_low", 0.95, "above ci_high"),
        ("metrics/identity_auc/unit", None, "metrics.identity_auc.unit is missing"),
        ("metrics/identity_auc/higher_is_better", False, "is True by its name"),
        ("metrics/identity_auc/extractor", "dlib", "must hold name and sha256"),
        ("metrics/identity_acu", {}, "Did you mean 'identity_auc'"),
    ],
)
def test_broken_records_are_named(tmp_path: Path, where: str, value: Any, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken(where, value)))
    with pytest.raises(UserError, match=message) as caught:
        record.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_only_the_2015_inception_makes_an_fid(tmp_path: Path) -> None:
    entry = record.metric("fid", Estimate(3.0, None, None, 8), {"name": "efficientnet_lite0", "sha256": "c"})
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken("metrics/fid", entry)))
    with pytest.raises(UserError, match="measured by inception-2015 only"):
        record.read(path)


def test_nan_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contract"):
        example(auc=float("nan"))
    path = tmp_path / "record.json"
    path.write_text(json.dumps(broken("metrics/identity_auc/value", float("nan"))))
    with pytest.raises(UserError, match="NaN is no JSON number"):
        record.read(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write(tmp_path, example(), [{"score": float("nan")}])


def test_table_shows_steps_and_intervals() -> None:
    first = example()
    second = example("base", 0.5)
    del second["metrics"]["frechet_distance"]
    text = table.markdown([first, second])
    lines = text.splitlines()
    assert lines[0] == "| method | training steps | identity AUC ↑ | Frechet ↓ |"
    assert lines[2] == "| the snf | 10 | 0.800 [0.70, 0.90] | 12.50 |"
    assert lines[3] == "| the base | 10 | 0.500 [0.40, 0.60] | - |"


def test_wandb_gets_every_metric_of_every_method_and_nothing_unless_asked(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from fdlab.records import wandb_table

    second = example("base", 0.5)
    del second["metrics"]["frechet_distance"]
    header, lines = wandb_table.rows_of([example(), second])
    assert header == ["method", "training steps", "identity_auc", "frechet_distance"]
    assert lines == [["the snf", "10", 0.8, 12.5], ["the base", "10", 0.5, None]]
    cfg = OmegaConf.create({"logger": {"wandb": False}, "experiment": "sdm", "name": "x"})
    wandb_table.log(cfg, tmp_path, [example()], [])
    assert not list(tmp_path.iterdir())


def test_too_few_pictures_for_a_frechet_distance_are_said() -> None:
    def of(num: int, name: str = "frechet_distance") -> dict[str, Any]:
        return {"metrics": {name: {"n": num}}}

    assert table.note([of(2048), of(4000, "fid"), {"metrics": {}}]) == table.NOTE
    assert "Frechet distance of 96 pictures is biased upwards" in table.note([of(2048), of(96)])
    assert "of 2,047 pictures" in table.note([of(2047, "fid")])
