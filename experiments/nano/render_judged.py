"""Render what the judge learns from: people as the benchmarks frame them, dressed as prompts may ask.

    python experiments/nano/render_judged.py OUT [--num 8000] [--seed 0] [--part 0/2]
Run again to go on. OUT then holds what experiments/nano/train_judge.py reads. With `--part k/n` only every
n-th chunk is rendered, so that several processes share the work; the last of them gathers all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fdlab import files
from fdlab.people import appearance, benchmark, picture, scenes, styles
from fdlab.people.appearance import Appearance
from fdlab.people.clothes import COLORS
from fdlab.randomness import numpy_rng

CHUNK = 100
FIRST, NUM_PEOPLE = 500_000, 100_000
"""Identities that no other part is trained on, and no benchmark shows."""
COUNT = (0.88, 0.09, 0.02, 0.01)
STYLES = {name: 0.56 if name == "photograph" else 0.11 for name in styles.STYLES}
SCALES = {1: (29.0, 38.0), 2: (20.0, 26.0), 3: (15.5, 18.0), 4: (12.5, 14.0)}
"""A little wider than the benchmarks' (`benchmark.SCALE`, `benchmark.PAIR_SCALE`)."""


def look(rng: np.random.Generator) -> Appearance:
    """A look in the benchmarks' poses; hats, scarves and expressions often, patterns seldom."""
    drawn = appearance.draw(rng, frontal=0.9)
    worn = {name: str(rng.choice(list(COLORS))) if rng.random() < 0.25 else None for name in ("hat", "scarf")}
    plain = {"pattern": "plain"} if rng.random() < 0.6 else {}
    return replace(drawn, **worn, **plain)


def spec_of(seed: int, index: int) -> picture.Spec:
    """Picture `index`."""
    rng = numpy_rng(seed, "judged picture", index)
    count = 1 + int(rng.choice(len(COUNT), p=COUNT))
    numbers = FIRST + rng.choice(NUM_PEOPLE, count, replace=False)
    people = tuple((int(number), look(rng)) for number in numbers)
    scene = str(rng.choice(list(scenes.SCENES)))
    hour = "sunset" if scenes.SCENES[scene][2] and rng.random() < 0.25 else "day"
    style = str(rng.choice(list(STYLES), p=list(STYLES.values())))
    right = float(rng.normal(0, 0.15)) if count == 1 else 0.0
    framing = picture.Framing(float(rng.uniform(*SCALES[count])), float(rng.uniform(0.38, 0.46)), right)
    return picture.Spec(people, scene, hour, style, framing, int(rng.integers(2**31)))


def render_chunk(path: Path, seed: int, indices: range) -> None:
    """Render a chunk into one file, whole or not at all."""
    specs = [spec_of(seed, index) for index in indices]
    images = np.stack([picture.render(spec, benchmark.SIZE).image_HW3 for spec in specs])
    said = [(picture.describe(spec)[0], picture.truth(spec)) for spec in specs]
    with files.whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, images=images, said=np.array(json.dumps(said)))


def gather(out: Path, chunks: list[Path]) -> None:
    """All chunks as `fdlab.pretraining.packed` names its arrays and lists."""
    read: list[Any] = [np.load(path) for path in chunks]
    with files.whole(out / "images.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, np.concatenate([chunk["images"] for chunk in read]))
    said = [entry for chunk in read for entry in json.loads(str(chunk["said"]))]
    files.write_json(out / "captions.json", [caption for caption, _ in said])
    files.write_text(out / "truths.json", json.dumps([truth for _, truth in said]))


def main() -> None:
    """Render what is missing, then gather."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1", help="k/n: only every n-th chunk, from the k-th on")
    given = parser.parse_args()
    folder = given.out / "chunks"
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, given.num, CHUNK)
    chunks = [folder / f"seed{given.seed}-{start:06d}.npz" for start in starts]
    part, parts = map(int, given.part.split("/"))
    for path, start in list(zip(chunks, starts, strict=True))[part::parts]:
        if not path.exists():
            render_chunk(path, given.seed, range(start, min(start + CHUNK, given.num)))
            print(path.name, flush=True)
    if all(path.exists() for path in chunks):
        gather(given.out, chunks)
        print(f"{given.num} pictures in {given.out}", flush=True)


if __name__ == "__main__":
    main()
