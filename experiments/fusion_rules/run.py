"""Every rule for the middle stages, and either model alone, on the same people, prompts and seeds.

    python experiments/fusion_rules/run.py OUT [overrides of `fdlab evaluate`]
    python experiments/fusion_rules/run.py --publish OUT

A rule that is measured already is not measured again. The table's differences are paired: the same subject,
prompt and seed under the rule and under the released one. --publish puts table and picture into this folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fdlab.files import write_json, write_text
from fdlab.leaderboard.compare import compare, locate
from fdlab.people import benchmark
from fdlab.records import per_sample
from fdlab.records.figures import image_grid

RELEASED = "released"
RULES: dict[str, list[str]] = {
    RELEASED: ["sampler=snf_test"],
    "gaussian": ["sampler=snf_test", "sampler.smoothing=gaussian"],
    "null-base": ["sampler=snf_test", "sampler.base=null"],
    "soft": ["sampler=snf_test", "sampler.mask=soft"],
    "gaussian-null": ["sampler=snf_test", "sampler.smoothing=gaussian", "sampler.base=null"],
    "switch": ["sampler=switch", "sampler.fraction=0.4"],
    "attention": ["sampler=attention", "sampler.alpha=0.2"],
    "sdm": ["sampler=sdm", "sampler.base=null"],
    "tdm": ["sampler=tdm"],
}
NUM_PROMPTS = 8
"""The first ones of people_single, two drawings among them."""
SEEDS = 4
SHOWN_PEOPLE = ("s00", "s01", "s02")
"""In the picture; the first ones, not chosen."""
SHOWN_PROMPTS = ("p00", "p01", "p04", "p06")
"""Beach, a yellow sweater in a studio, snow, a watercolour of mountains."""
SHOWN = ("identity_auc", "identity_similarity", "face_detection_rate", "prompt_accuracy", "clip_score")
HERE = Path(__file__).parent
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def four_seeds(folder: Path) -> None:
    """The embedded benchmark with its first prompts alone, each drawn with several seeds."""
    if (folder / "benchmark.json").is_file():
        return
    made = benchmark.manifest("people_single")
    benchmark.render(folder, "people_single", [entry["id"] for entry in made["subjects"]], [])
    made = {key: value for key, value in made.items() if key != "real"}
    write_json(
        folder / "benchmark.json",
        {
            **made,
            "name": "people_single_seeds",
            "prompts": made["prompts"][:NUM_PROMPTS],
            "images_per_prompt": SEEDS,
        },
    )


def measure(out: Path, name: str, overrides: list[str]) -> None:
    """Evaluate one rule into OUT/evaluate/NAME, unless its record is there."""
    if (out / "evaluate" / name / "evaluation/record.json").is_file():
        return
    bench = ["benchmark=own", f"benchmark.folder={out / 'benchmark'}", "sampler.num_steps=12"]
    command = [sys.executable, "-m", "fdlab", "evaluate", *RULES[name], *bench, *overrides]
    subprocess.run([*command, "benchmark.baselines=false", f"name={name}", f"paths.runs={out}"], check=True)


def values(out: Path) -> str:
    """Markdown: what every rule reaches, with 95 % intervals over subjects."""
    lines = [f"| rule | {' | '.join(SHOWN)} |", f"|---|{'---:|' * len(SHOWN)}"]
    for name in RULES:
        metrics = locate(out / "evaluate" / name).record["metrics"]
        cells = [_value(metrics[metric]) for metric in SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(entry: dict[str, Any]) -> str:
    return f"{entry['value']:.3f} [{entry['ci_low']:.2f}, {entry['ci_high']:.2f}]"


def table(out: Path) -> str:
    """Markdown: every other rule's paired differences from the released one."""
    released = locate(out / "evaluate" / RELEASED)
    lines = [f"| less {RELEASED} | {' | '.join(SHOWN)} |", f"|---|{'---:|' * len(SHOWN)}"]
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


def picture(out: Path, path: Path) -> None:
    """The first people with every prompt: a row each, reference first, then every rule."""
    asked = json.loads((out / "benchmark/benchmark.json").read_text(encoding="utf-8"))["prompts"]
    rows = [
        (
            f"{who}, {prompt['truth']['scene']}",
            [
                out / "benchmark/references" / f"{who}.png",
                *(
                    out / "evaluate" / name / f"evaluation/images/{who}-{prompt['id']}-0.png"
                    for name in RULES
                ),
            ],
        )
        for who in SHOWN_PEOPLE
        for prompt in asked
        if prompt["id"] in SHOWN_PROMPTS
    ]
    image_grid(rows, ["reference", *RULES], path)


def publish(out: Path) -> None:
    """Put records, tables and picture beside this file, the tables between the README's two marks."""
    picture(out, HERE / "rules.png")
    for name in RULES:
        per_sample.keep(out / "evaluate" / name / "evaluation", HERE / "records" / name / "evaluation", out)
    before, _, rest = (HERE / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    shown = "![Three people, four prompts: the reference, then every rule](rules.png)"
    write_text(HERE / "README.md", f"{before}{BEGIN}\n{values(out)}\n{table(out)}\n{shown}\n{END}{after}")


def main(arguments: list[str]) -> int:
    """Measure all rules and write OUT/table.md; returns the exit status."""
    if not arguments or (arguments[0].startswith("-") and (arguments[0] != "--publish" or not arguments[1:])):
        print(__doc__, file=sys.stderr)
        return 0 if arguments[:1] == ["--help"] else 2
    if arguments[0] == "--publish":
        publish(Path(arguments[1]))
        return 0
    out = Path(arguments[0]).resolve()
    four_seeds(out / "benchmark")
    for name in RULES:
        measure(out, name, arguments[1:])
    text = f"{values(out)}\n{table(out)}"
    write_text(out / "table.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
