"""The final table and figures in Weights & Biases, where logger=wandb asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdlab.metrics.registry import METRICS
from fdlab.records import table


def rows_of(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Header and one line a method: label, steps, and each metric's value (None where absent)."""
    names = table.columns(records, list(METRICS))
    lines = []
    for record in records:
        values = [record["metrics"][name]["value"] if name in record["metrics"] else None for name in names]
        lines.append([table.label(record), table.steps(record), *values])
    return ["method", "training steps", *names], lines


FILES = ("evaluation/record.json", "evaluation/per_sample.jsonl", "evaluation/breakdown.json")
"""What of a run directory is kept whole, so that `leaderboard --from-wandb` finds it."""


def log(
    logger: Any,
    records: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, Path]],
    run_dir: Path,
) -> None:
    """Log the table, the main method's metrics, the figures and the main record's files to the run that
    training logged to."""
    import wandb

    header, lines = rows_of(records)
    main = {f"evaluation/{name}": entry["value"] for name, entry in records[-1]["metrics"].items()}
    images = {f"evaluation/{path.stem}": wandb.Image(str(path), caption=caption) for caption, path in figures}
    logger.experiment.log({"evaluation/table": wandb.Table(header, lines), **main, **images})
    for name in FILES:
        if (run_dir / name).is_file():
            logger.experiment.save(str(run_dir / name), base_path=str(run_dir), policy="now")
    logger.experiment.finish()
