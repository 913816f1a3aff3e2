"""Does an SDM learn as much from what `data prepare` makes of photos as from the truth about the same photos?

    python experiments/prepared_data/run.py OUT [--num N] [--arms ARM ...] [--seeds N ...] [KEY=VALUE ...]
    python experiments/prepared_data/run.py --publish OUT

People are rendered at 256 px. One SDM is fine-tuned on them with all that the renderer knows: captions that
say which word is whom, masks, identities. The others are fine-tuned on what `data prepare` makes of the
pictures and their plain captions, which is all that it is given. The start, the steps, the seed, and people
and noise of the evaluation are the same; KEY=VALUE goes to all trainings. What is done already is not done
again. --publish puts records and tables into this folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from measure import prepare_and_measure

from fdlab.benchmarks.choice import BenchmarkSettings
from fdlab.config.compose import settings_of
from fdlab.data.folder import FastComposerFolder
from fdlab.files import whole_folder, write_json, write_text
from fdlab.leaderboard.compare import compare, locate
from fdlab.marker import MARKER
from fdlab.metrics.registry import METRICS
from fdlab.preparation.run import work_of
from fdlab.records import per_sample, table
from fdlab.records.figures import image_grid
from fdlab.records.record import RECORD

TRUTH = "truth"
ARMS: dict[str, list[str]] = {
    "prepared": [],
    "template": ["prepare.captions.source=template"],
    "apart": ["prepare.identities.threshold=0.5"],
}
"""What `data prepare` is told for each training set beside the renders themselves."""
AS_RENDERS = (
    "data=folder", "data.split=all", "data.reference=mixed", "data.own_share=0.3", "data.max_subjects=2",
    "data.mirror=false", "data.cache_latents=true", "data.skip_corrupt=true",
)  # fmt: skip
"""As `+exp=sdm` reads the people that it renders; pictures in which it finds no head to cut out are passed
over."""
AS_FIRST = (
    "benchmark=people_single", "benchmark.max_subjects=12", "benchmark.max_prompts=8",
    "benchmark.max_images=1", "benchmark.baselines=false", "sampler.num_steps=12",
)  # fmt: skip
"""The evaluation of the README's first command, of one row alone."""
SAMPLERS = {"sdm": "SDM", "snf_prompt": "SNF"}
"""The SDM alone, and with the TDM that ships."""
SHOWN = ("identity_auc", "identity_similarity", "face_detection_rate", "prompt_accuracy", "clip_score")
PEOPLE, PROMPTS = 3, 1
"""In the picture; the first ones, not chosen."""
MEASURED = "measured.json"
HERE = Path(__file__).parent
BEGIN, END = "<!-- training -->", "<!-- end of training -->"


def fdlab(*words: object) -> None:
    """Run a command, which shows its own progress."""
    subprocess.run([sys.executable, "-m", "fdlab", *map(str, words)], check=True)


def training_set(out: Path, arm: str, workers: int) -> Path:
    """The folder that an arm trains on, made where it is not there; OUT/ARM/measured.json says what it is
    like."""
    renders = FastComposerFolder(out / "renders")
    if arm == TRUTH:
        who = {subject.identity for id in renders.ids() for subject in renders.annotation(id).subjects}
        write_json(out / arm / MEASURED, {"prepared": len(renders.ids()), "made_identities": len(who)})
        return renders.root
    folder = out / arm / "set"
    made, known = work_of(folder), work_of(out / "prepared/set")
    if known.is_dir() and not made.exists():
        # What stages found is the same wherever their settings are.
        with whole_folder(made) as temporary:
            shutil.copytree(known, temporary, dirs_exist_ok=True)
    prepare_and_measure(renders, out / "photos", out / arm, [*ARMS[arm], f"workers={workers}"])
    return folder


def train(out: Path, arm: str, seed: int, workers: int, overrides: Sequence[str]) -> None:
    """Train one SDM in OUT/runs/sdm/ARM-SEED, unless its weights are there."""
    if (_run(out, arm, seed) / "model").is_dir():
        return
    told = (f"data.root={training_set(out, arm, workers)}", f"seed={seed}", f"name={arm}-{seed}")
    fdlab("train", "+exp=sdm", "evaluate=false", *AS_RENDERS, *told, f"paths.runs={out / 'runs'}", *overrides)


def evaluate(out: Path, arm: str, seed: int, sampler: str) -> None:
    """Draw and measure in OUT/runs/evaluate/SAMPLER-ARM-SEED, unless the record is there."""
    if (_evaluation(out, sampler, arm, seed) / RECORD).is_file():
        return
    told = (f"sdm={_run(out, arm, seed) / 'model'}", f"sampler={sampler}", f"name={sampler}-{arm}-{seed}")
    fdlab("evaluate", *AS_FIRST, *told, f"paths.runs={out / 'runs'}")


def _run(out: Path, arm: str, seed: int) -> Path:
    return out / "runs/sdm" / f"{arm}-{seed}"


def _evaluation(out: Path, sampler: str, arm: str, seed: int) -> Path:
    return out / "runs/evaluate" / f"{sampler}-{arm}-{seed}" / "evaluation"


def done(out: Path, sampler: str) -> list[tuple[str, int]]:
    """Arms and seeds that have been measured, by seed, the truth first."""
    found = (out / "runs/evaluate").glob(f"{sampler}-*/evaluation/{RECORD}")
    names = [path.parents[1].name.removeprefix(f"{sampler}-").rpartition("-") for path in found]
    order = [TRUTH, *ARMS]
    return sorted(((arm, int(seed)) for arm, _, seed in names), key=lambda a: (a[1], order.index(a[0])))


def table_of_sets(out: Path) -> Iterator[str]:
    """Markdown: what each arm is trained on."""
    yield "| trained on | pictures | people told apart | identity F1 | right nouns | mask IoU |"
    yield "|---|---:|---:|---:|---:|---:|"
    for arm in dict.fromkeys(arm for sampler in SAMPLERS for arm, _ in done(out, sampler)):
        found = json.loads((out / arm / MEASURED).read_text(encoding="utf-8"))
        cells = [
            f"{found[key]:.3f}" if key in found else "given"
            for key in ("identity_f1", "right_nouns", "mask_iou")
        ]
        yield f"| {arm} | {found['prepared']} | {found['made_identities']} | {' | '.join(cells)} |"


def table_of_scores(out: Path) -> Iterator[str]:
    """Markdown: each arm's scores, means over seeds; then paired differences from the truth's pictures."""
    yield f"| drawn by | trained on | seeds | {' | '.join(map(table.heading, SHOWN))} |"
    yield f"|---|---|---|{'---:|' * len(SHOWN)}"
    for sampler, label in SAMPLERS.items():
        places = done(out, sampler)
        arms = {arm: [seed for other, seed in places if other == arm] for arm, _ in places}
        for arm, seeds in arms.items():
            records = [locate(_evaluation(out, sampler, arm, seed)).record["metrics"] for seed in seeds]
            means = [{"value": mean(record[name]["value"] for record in records)} for name in SHOWN]
            cells = " | ".join(map(table.value, means, SHOWN))
            yield f"| {label} | {arm} | {', '.join(map(str, seeds))} | {cells} |"
        truths = arms.get(TRUTH, [])
        for arm, seed in places:
            # What another seed changes says how large a difference is chance.
            other = seed if arm != TRUTH else truths[0]
            if other not in truths or (arm, seed) == (TRUTH, other):
                continue
            ours = locate(_evaluation(out, sampler, arm, seed))
            made = compare(locate(_evaluation(out, sampler, TRUTH, other)), ours)
            found = {line.metric: line.difference for line in made.lines}
            cells = " | ".join(_difference(found[name], name) for name in SHOWN)
            which = str(seed) if arm != TRUTH else f"{seed} - {other}"
            yield f"| {label} | {arm} - {TRUTH} | {which} | {cells} |"


def _difference(estimate: Any, name: str) -> str:
    """With its interval, bold where that leaves out 0."""
    decimals = METRICS[name].decimals
    text = f"{estimate.value:+.{decimals}f}"
    if estimate.low is None or estimate.high is None:
        return text
    clear = estimate.low > 0 or estimate.high < 0
    return f"{f'**{text}**' if clear else text} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def tables(out: Path) -> str:
    """Both tables in Markdown."""
    return "\n".join([*table_of_sets(out), "", *table_of_scores(out)]) + "\n"


def picture(out: Path) -> None:
    """The first people with the first prompts, drawn by every SDM of the first seed."""
    asked = BenchmarkSettings.read(settings_of(AS_FIRST, "evaluate")["benchmark"]).open()
    shown = [(sampler, arm) for sampler in SAMPLERS for arm, seed in done(out, sampler) if seed == 0]
    rows = [
        (
            prompt.of([subject]).replace(f" {MARKER}", ""),
            [
                asked.folder / subject.references[0],
                *(
                    _evaluation(out, sampler, arm, 0) / f"images/{subject.id}-{prompt.id}-0.png"
                    for sampler, arm in shown
                ),
            ],
        )
        for subject in asked.subjects[:PEOPLE]
        for prompt in asked.prompts[:PROMPTS]
    ]
    columns = ["reference", *(f"{SAMPLERS[sampler]}, {arm}" for sampler, arm in shown)]
    image_grid(rows, columns, HERE / "training.png")


def publish(out: Path) -> None:
    """Keep records beside this file, without pictures, and put the tables between the README's two marks."""
    for sampler in SAMPLERS:
        for arm, seed in done(out, sampler):
            kept = HERE / "records" / f"{sampler}-{arm}-{seed}"
            per_sample.keep(_evaluation(out, sampler, arm, seed), kept, out)
    picture(out)
    before, _, rest = (HERE / "README.md").read_text(encoding="utf-8").partition(BEGIN)
    text = f"{tables(out)}\n![The first people, the first prompts](training.png)\n"
    write_text(HERE / "README.md", f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")


def main() -> None:
    """Render, prepare, train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--publish", action="store_true", help="show in this folder what is measured")
    parser.add_argument("--num", type=int, default=600, help="pictures to render (default: 600)")
    parser.add_argument("--arms", nargs="+", choices=(TRUTH, *ARMS), default=(TRUTH, "prepared"))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    asked, overrides = parser.parse_known_args()
    if wrong := [word for word in overrides if "=" not in word or word.startswith("-")]:
        parser.error(f"'{wrong[0]}' is no KEY=VALUE")
    out = asked.out.resolve()
    if asked.publish:
        publish(out)
        return
    how = ("--mix", "aligned-portraits", "--num", asked.num, "--size", 256, "--workers", asked.workers)
    fdlab("data", "render", out / "renders", *how)
    runs = [(arm, seed) for seed in asked.seeds for arm in asked.arms]
    for arm, seed in runs:
        train(out, arm, seed, asked.workers, overrides)
    for sampler in SAMPLERS:
        for arm, seed in runs:
            evaluate(out, arm, seed, sampler)
    write_text(out / "tables.md", tables(out))
    print(tables(out))


if __name__ == "__main__":
    main()
