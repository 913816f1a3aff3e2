"""Search how to sample the weights that ship, on people whom neither training nor benchmark shows.

    python experiments/search/run.py OUT            # 20 trials, an hour on one core; goes on where it stopped
    python experiments/search/run.py --publish OUT   # puts table and figures into this folder

First for identity and prompt accuracy together; then, from the same pictures, for each alone, which compares
the trials picture by picture.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdlab.__main__ import main as fdlab
from fdlab.files import write_text
from fdlab.metrics.registry import METRICS
from fdlab.sweeps import paired, results
from fdlab.sweeps.asked import read
from fdlab.sweeps.dimensions import written
from fdlab.sweeps.study import Study

OBJECTIVES = ("identity_auc", "prompt_accuracy")
TRIALS = 20
SEARCHED = (
    "sampler=snf_prompt",
    "sampler.alpha=interval(0.05,0.45)",
    "sampler.beta=interval(0.5,0.95)",
    "sampler.guidance_scale=interval(1.5,6)",
    "sampler.final_sigma=interval(0,1.5)",
    "sampler.num_steps=12",
    "benchmark=people_validation",
    "benchmark.max_subjects=8",
    "benchmark.max_prompts=6",
    "benchmark.max_images=1",
    "benchmark.baselines=false",
    "sweep=tpe",
    f"sweep.trials={TRIALS}",
    "sweep.startup=8",
)
PRESET = "sampler.alpha=0.2 sampler.beta=0.6 sampler.guidance_scale=3 sampler.final_sigma=0.7"
"""What snf_prompt does with these weights."""
HERE = Path(__file__).parent
FIGURES = ("front.png", *(f"slices-{name}.png" for name in OBJECTIVES))
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def words(out: Path, objectives: Sequence[str], known: Sequence[str]) -> list[str]:
    """A search's words."""
    name = "sampling" if len(objectives) > 1 else f"sampling-{objectives[0].partition('_')[0]}"
    own = [f"sweep.objective=[{','.join(objectives)}]", f"sweep.name={name}", f"paths.runs={out}"]
    return [*SEARCHED, *own, f"sweep.known={json.dumps(list(known))}"]


def points(study: Study) -> list[str]:
    """The points of a search, to begin another with."""
    return [" ".join(f"{key}={written(value)}" for key, value in t.params.items()) for t in study.trials()]


def searches(out: Path) -> list[Study]:
    """That for both objectives, then for each alone."""
    both = read(words(out, OBJECTIVES, [PRESET]))[1]
    return [both, *(read(words(out, [name], points(both)))[1] for name in OBJECTIVES)]


def table(out: Path) -> str:
    """Every trial, those that none beats marked; which cannot be told from the best of one objective."""
    both, *alone = searches(out)
    leading = {trial.number for trial in results.best(both)}
    keys = list(both.space.dimensions)
    head = ["trial", *(key.partition(".")[2] for key in keys), *(METRICS[name].label for name in OBJECTIVES)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    _, rows = results.table(both)
    for row in rows:
        name = f"**{row[0]}**" if int(row[0]) in leading else row[0]
        lines.append(
            "| " + " | ".join([name, *(_short(cell) for cell in row[1 : 1 + len(keys)]), *row[5:7]]) + " |"
        )
    return "\n".join([*lines, "", *(f"* {_sentence(study)}" for study in alone)]) + "\n"


def _short(number: str) -> str:
    return f"{float(number):.2f}"


def _sentence(study: Study) -> str:
    best, trials = results.best(study)[0], study.trials()
    alike = paired.beside(study, best)
    told = [
        trial.number for trial in trials if trial.number not in {best.number, *(t.number for t, _ in alike)}
    ]
    at = ", ".join(f"{key.partition('.')[2]} {_short(value)}" for key, value in best.params.items())
    label = METRICS[study.settings.objective[0]].label
    named = ", ".join(_difference(*one) for one in alike)
    return (
        f"{label}: trial {best.number} is best, {best.values[0]:.3f} ({at}). Of {len(trials) - 1} others "
        f"{len(alike)} are not told from it by the same pictures: {named}. Told from it: {_numbers(told)}."
    )


def _difference(trial: Any, d: Any) -> str:
    return f"{trial.number} ({d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}])"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"


def publish(out: Path) -> None:
    """Put table and figures beside this file, the table between the README's two marks."""
    both = searches(out)[0]
    for name in FIGURES:
        shutil.copyfile(both.folder / name, HERE / name)
    before, _, rest = (HERE / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    write_text(HERE / "README.md", f"{before}{BEGIN}\n{table(out)}{END}{rest.partition(END)[2]}")


def main(arguments: list[str]) -> int:
    """Search; returns the exit status."""
    if not arguments or arguments == ["--publish"]:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "--publish":
        publish(Path(arguments[1]).resolve())
        return 0
    out = Path(arguments[0]).resolve()
    status = fdlab(["sweep", *words(out, OBJECTIVES, [PRESET])])
    for name in OBJECTIVES if not status else ():
        both = read(words(out, OBJECTIVES, [PRESET]))[1]
        # Every trial has its record already.
        status = status or fdlab(["sweep", *words(out, [name], points(both))])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
