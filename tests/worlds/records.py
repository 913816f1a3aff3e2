"""A record, as an evaluation would write it."""

from __future__ import annotations

from typing import Any

from fdlab.metrics.bootstrap import Estimate
from fdlab.records import record

EXTRACTOR = {"name": "squares", "sha256": "0" * 64}


def example(name: str = "snf", auc: float = 0.8) -> dict[str, Any]:
    """Of a method `name`, with two metrics."""
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
