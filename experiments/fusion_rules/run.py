"""Every rule for the middle stages on the same people, prompts and seeds: one evaluation a rule, one table.

    python experiments/fusion_rules/run.py OUT [overrides of `fdlab evaluate`]

A rule that is measured already is not measured again. The table's differences are paired: the same subject,
prompt and seed under the rule and under the released one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from fdlab.files import write_text
from fdlab.leaderboard.compare import compare, locate

RELEASED = "released"
RULES: dict[str, list[str]] = {
    RELEASED: ["sampler=snf_test"],
    "gaussian": ["sampler=snf_test", "sampler.smoothing=gaussian"],
    "null-base": ["sampler=snf_test", "sampler.base=null"],
    "soft": ["sampler=snf_test", "sampler.mask=soft"],
    "gaussian-null": ["sampler=snf_test", "sampler.smoothing=gaussian", "sampler.base=null"],
    "switch": ["sampler=switch", "sampler.fraction=0.4"],
    "attention": ["sampler=attention", "sampler.alpha=0.2"],
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


SHOWN = ("identity_auc", "identity_similarity", "face_detection_rate", "prompt_accuracy", "clip_score")


def table(out: Path) -> str:
    """Markdown: the released rule's values, and every other rule's paired differences from it."""
    released = locate(out / "evaluate" / RELEASED)
    entries = released.record["metrics"]
    lines = [f"| rule | {' | '.join(SHOWN)} |", f"|---|{'---:|' * len(SHOWN)}"]
    lines.append(f"| {RELEASED} | {' | '.join(format(entries[name]['value'], '.3f') for name in SHOWN)} |")
    for name in RULES:
        if name == RELEASED:
            continue
        found = {line.metric: line for line in compare(released, locate(out / "evaluate" / name)).lines}
        cells = [_cell(found[metric].difference) if metric in found else "" for metric in SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(estimate: Any) -> str:
    """A difference with its interval, bold where that leaves out 0."""
    text = f"{estimate.value:+.3f}"
    if estimate.low is None or estimate.high is None:
        return text
    clear = estimate.low > 0 or estimate.high < 0
    return f"{f'**{text}**' if clear else text} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def main(arguments: list[str]) -> int:
    """Measure all rules and write OUT/table.md; returns the exit status."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
    for name in RULES:
        measure(out, name, arguments[1:])
    write_text(out / "table.md", table(out))
    print(table(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
