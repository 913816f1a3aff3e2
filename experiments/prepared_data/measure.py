"""How well `data prepare` does on rendered people whose truth it is not told.

    python -m fdlab data render RENDERS --mix portraits --num 200 --seed 7 --size 256
    python experiments/prepared_data/measure.py RENDERS OUT [KEY=VALUE ...]

OUT gets photos/ (pictures and captions alone), the data set made of them, and measured.json.
Axes: H W pixels.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fdlab.config.compose import settings_of
from fdlab.data.folder import FastComposerFolder
from fdlab.data.sample import PersonSample
from fdlab.files import write_bytes, write_json, write_text
from fdlab.preparation import run
from fdlab.preparation.settings import Settings


def withhold(renders: FastComposerFolder, photos: Path) -> None:
    """Write pictures and captions, and nothing else."""
    for id in renders.ids():
        if not (photos / f"{id}.txt").exists():
            write_bytes(photos / f"{id}.png", renders.picture(id))
            write_text(photos / f"{id}.txt", renders.annotation(id).caption + "\n")


def owners(truth: PersonSample, made: PersonSample) -> dict[int, int]:
    """Whom each segment that was made shows: true segments, by most pixels of the mask's upper third."""
    found = {}
    for segment in set(np.unique(made.segments_HW).tolist()) - {0}:
        mask_HW = made.segments_HW == segment
        rows = np.flatnonzero(mask_HW.any(1))
        mask_HW[rows[0] + max(1, (rows[-1] - rows[0]) // 3) :] = False
        seen = truth.segments_HW[mask_HW]
        counts = np.bincount(seen[seen > 0])
        if counts.size:
            found[segment] = int(counts.argmax())
    return found


def pairwise_f1(true: list[int], made: list[int]) -> tuple[float, float, float]:
    """Precision, recall and F1 of "these two are one person" over all pairs of faces."""
    both = Counter(zip(true, made, strict=True))

    def pairs(counts: Counter[Any]) -> int:
        return sum(n * (n - 1) // 2 for n in counts.values())

    agreed, said, there = pairs(both), pairs(Counter(made)), pairs(Counter(true))
    precision, recall = agreed / max(1, said), agreed / max(1, there)
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def measured(renders: FastComposerFolder, made: run.Prepared, out: Path) -> dict[str, Any]:
    """The numbers of the gates."""
    folder = FastComposerFolder(out / "set")
    pictures = {Path(chosen.seen.name).stem: chosen.id for chosen in made.plan.chosen}
    right_number = nouns = right_nouns = 0
    true_who: list[int] = []
    made_who: list[int] = []
    unions: list[float] = []
    for id in renders.ids():
        truth = renders.sample(id)
        people = len(truth.subjects)
        if id not in pictures:
            continue
        sample = folder.sample(pictures[id])
        owner = owners(truth, sample)
        chosen = next(c for c in made.plan.chosen if c.id == pictures[id])
        right_number += len(chosen.people) == people
        ends = {s.segment: s.end for s in truth.subjects}
        for subject in sample.subjects:
            nouns += 1
            right_nouns += ends.get(owner.get(subject.segment, 0)) == subject.end
        who = {s.segment: s.identity for s in truth.subjects}
        for n, person in enumerate(chosen.people, 1):
            if (identity := who.get(owner.get(n, 0))) is not None:
                true_who.append(identity)
                made_who.append(person.identity)
                true_HW, made_HW = truth.segments_HW == owner[n], sample.segments_HW == n
                unions.append(float((true_HW & made_HW).sum() / (true_HW | made_HW).sum()))
    precision, recall, f1 = pairwise_f1(true_who, made_who)
    return {
        "renders": len(renders.ids()),
        "prepared": len(pictures),
        "right_number_of_people": right_number / len(renders.ids()),
        "nouns": nouns,
        "right_nouns": right_nouns / max(1, nouns),
        "faces": len(true_who),
        "true_identities": len(set(true_who)),
        "made_identities": len(set(made_who)),
        "identity_precision": precision,
        "identity_recall": recall,
        "identity_f1": f1,
        "mask_iou": float(np.mean(unions)),
    }


def prepare_and_measure(
    renders: FastComposerFolder, photos: Path, out: Path, overrides: list[str]
) -> dict[str, Any]:
    """Make OUT/set of the pictures and captions alone, which go to `photos`; the numbers, also in
    OUT/measured.json."""
    withhold(renders, photos)
    asked = settings_of(overrides, "data_prepare")
    made = run.prepare(photos, out / "set", Settings.read(asked["prepare"]), workers=asked["workers"])
    if isinstance(made, str):
        raise SystemExit(made)
    numbers = {**measured(renders, made, out), "report": made.numbers}
    write_json(out / "measured.json", numbers)
    return numbers


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("renders", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    renders = FastComposerFolder(asked.renders)
    numbers = prepare_and_measure(renders, asked.out / "photos", asked.out, asked.overrides)
    print(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
