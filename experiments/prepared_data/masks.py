"""How well the matting that ships cuts out rendered people, told apart by the faces that the detector finds.

    python -m fdlab data render RENDERS --mix all --num 200 --seed 77 --size 256
    python experiments/prepared_data/masks.py RENDERS [--sheet masks.png]

The sheet shows the pictures with the lowest overlap: picture, truth, found, matte.
Axes: H W pixels, N people, M masks, F faces.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from fdlab.data.folder import FastComposerFolder
from fdlab.data.sample import PersonSample
from fdlab.measure.faces import FaceDetector
from fdlab.measure.matting import PersonMatting
from fdlab.preparation.people_masks import PersonMask, tell_apart
from fdlab.progress import track

COLOURS = np.array([[255, 60, 60], [60, 200, 60], [60, 90, 255], [255, 210, 40]], np.float64)
WORST = 8


@dataclass(frozen=True)
class Measured:
    """One picture."""

    sample: PersonSample
    matte_HW: np.ndarray
    made: list[PersonMask]
    overlap_N: np.ndarray
    """Of each true person with the mask that is theirs; 0 where there is none."""
    owner_M: np.ndarray
    """Row of the person that each mask is compared with, -1 for none."""


def overlap(true_HW: np.ndarray, found_HW: np.ndarray) -> float:
    """Intersection over union."""
    return float((true_HW & found_HW).sum() / max(1, (true_HW | found_HW).sum()))


def measure(sample: PersonSample, detector: FaceDetector, matting: PersonMatting) -> Measured:
    """Cut out the people of a picture, and pair them with the true ones for the largest overlap in all."""
    image_HW3 = np.array(sample.image_HW3)
    boxes_F4 = np.array([face.box for face in detector([image_HW3])[0]]).reshape(-1, 4)
    matte_HW = matting.matte(image_HW3)
    made = tell_apart(matte_HW, boxes_F4, image_HW3)
    truth = [sample.segments_HW == k for k in np.unique(sample.segments_HW) if k]
    iou_NM = np.array([[overlap(a, b.mask_HW) for b in made] for a in truth]).reshape(len(truth), len(made))
    row, column = linear_sum_assignment(-iou_NM)
    overlap_N, owner_M = np.zeros(len(truth)), np.full(len(made), -1)
    overlap_N[row], owner_M[column] = iou_NM[row, column], row
    return Measured(sample, matte_HW, made, overlap_N, owner_M)


def report(all_measured: list[Measured]) -> None:
    """Print the table: all, by style, by number of people; then what the scores are worth."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for one in all_measured:
        for name in ("all", str(one.sample.truth["style"]), f"people: {len(one.overlap_N)}"):
            groups[name].append(one)
    print("| pictures | number | people | mean IoU | number right |\n|---|---|---|---|---|")
    for name, some in sorted(groups.items()):
        overlap_N = np.concatenate([one.overlap_N for one in some])
        right = np.mean([len(one.made) == len(one.overlap_N) for one in some])
        print(f"| {name} | {len(some)} | {len(overlap_N)} | {overlap_N.mean():.3f} | {right:.3f} |")
    pairs = np.array(
        [
            (mask.score, one.overlap_N[owner])
            for one in all_measured
            for mask, owner in zip(one.made, one.owner_M, strict=True)
            if owner >= 0
        ]
    )
    score, true = pairs.T
    print(f"score {score.mean():.3f} on average, IoU {true.mean():.3f}, r = {np.corrcoef(pairs.T)[0, 1]:.2f}")
    together = [overlap(one.sample.segments_HW > 0, one.matte_HW > 0.5) for one in all_measured]
    print(f"all people of a picture as one mask: IoU {np.mean(together):.3f}")


def painted(image_HW3: np.ndarray, labels_HW: np.ndarray) -> np.ndarray:
    """A picture with its people in colours."""
    strength_HW1 = 0.45 * (labels_HW > 0)[..., None]
    colour_HW3 = COLOURS[(labels_HW - 1) % len(COLOURS)]
    return (image_HW3 * (1 - strength_HW1) + colour_HW3 * strength_HW1).astype(np.uint8)


def strip(one: Measured) -> np.ndarray:
    """Picture, truth, found, matte side by side."""
    image_HW3, truth_HW = one.sample.image_HW3, np.asarray(one.sample.segments_HW, int)
    found_HW = np.zeros(truth_HW.shape, int)
    for mask, owner in zip(one.made, one.owner_M, strict=True):
        found_HW[mask.mask_HW] = owner + 1 if owner >= 0 else len(COLOURS)
    matte_HW3 = np.repeat((one.matte_HW * 255).astype(np.uint8)[..., None], 3, 2)
    return np.concatenate(
        [image_HW3, painted(image_HW3, truth_HW), painted(image_HW3, found_HW), matte_HW3], 1
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("renders", type=Path)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    folder, detector, matting = FastComposerFolder(given.renders), FaceDetector(), PersonMatting.load()
    ids = folder.ids()
    found = [measure(folder.sample(id), detector, matting) for id in track(ids, "cutting out", len(ids))]
    report(found)
    if given.sheet:
        worst = sorted(found, key=lambda one: one.overlap_N.mean())[:WORST]
        Image.fromarray(np.concatenate([strip(one) for one in worst])).save(given.sheet)


if __name__ == "__main__":
    main()
