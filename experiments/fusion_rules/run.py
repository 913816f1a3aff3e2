"""Every rule for the middle stages on the same people, prompts and seeds: one evaluation a rule, one table.

    python experiments/fusion_rules/run.py OUT [overrides of `fdlab evaluate`]

A rule that is measured already is not measured again. The table's differences are paired: the same subject,
prompt and seed under the rule and under the released one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RELEASED = "released"
RULES: dict[str, list[str]] = {
    RELEASED: ["sampler=snf_test"],
    "gaussian": ["sampler=snf_test", "sampler.smoothing=gaussian"],
    "null-base": ["sampler=snf_test", "sampler.base=null"],
    "soft": ["sampler=snf_test", "sampler.mask=soft"],
    "gaussian-null": ["sampler=snf_test", "sampler.smoothing=gaussian", "sampler.base=null"],
    "switch": ["sampler=switch", "sampler.fraction=0.4"],
    "attention": ["sampler=attention", "sampler.alpha=0.2"],
    "average": ["sampler=average"],
    "sdm": ["sampler=sdm", "sampler.base=null"],
    "tdm": ["sampler=tdm"],
}
QUICK = [
    "sampler.num_steps=25",
    "benchmark.max_subjects=40",
    "benchmark.max_prompts=8",
    "benchmark.max_images=1",
]


def measure(out: Path, name: str, overrides: list[str]) -> None:
    """Evaluate one rule into OUT/evaluate/NAME, unless its record is there."""
    if (out / "evaluate" / name / "evaluation/record.json").is_file():
        return
    command = [sys.executable, "-m", "fdlab", "evaluate", *RULES[name], *QUICK, *overrides]
    subprocess.run([*command, "benchmark.baselines=false", f"name={name}", f"paths.runs={out}"], check=True)


def main(arguments: list[str]) -> int:
    """Measure all rules; returns the exit status."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
    for name in RULES:
        measure(out, name, arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
