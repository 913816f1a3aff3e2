"""How well a real recogniser tells rendered people apart: the ceiling for any method measured on them.

    python experiments/people/recognition.py [--recognisers dlib faceres]
Held-out identities, one reference each; the other pictures of each must be told from everybody else's.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from fdlab.measure.faces import FaceDetector, largest
from fdlab.measure.faces.choice import CHOICES, recogniser_of
from fdlab.people import appearance, picture
from fdlab.people.identity import HELD_OUT
from fdlab.randomness import numpy_rng

FRAMINGS = {"benchmark framing": (1.0, (32.0, 36.0)), "all poses": (0.0, (28.0, 38.0))}
"""Share of narrow poses, and pixels a decimetre at 128 px."""


def photograph(number: int, index: int, frontal: float, scale: tuple[float, float], size: int) -> np.ndarray:
    """One photograph of a person, drawn as the datasets draw theirs."""
    rng = numpy_rng(0, "recognition", number, index, str(frontal))
    alone, plain = (1.0, 0.0, 0.0, 0.0), {"photograph": 1.0}
    mix = replace(picture.MIXES["all"], frontal=frontal, count=alone, scale=scale, styles=plain)
    spec = picture.draw(mix, rng, 1, first=number)
    if index == 0:
        # A reference is a plain photograph: bare head, neutral, in a studio.
        look = replace(appearance.draw(rng, 1.0), hat=None, scarf=None, expression="neutral")
        spec = replace(spec, people=((number, look),), scene="studio", hour="day")
    return picture.render(spec, size).image_HW3


def verification(vector_ND: np.ndarray, owner_N: np.ndarray, reference_SD: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve of own against others' references, and share whose best match is their own."""
    score_NS = vector_ND @ reference_SD.T
    own = score_NS[np.arange(len(owner_N)), owner_N]
    mask = np.ones_like(score_NS, bool)
    mask[np.arange(len(owner_N)), owner_N] = False
    others = np.sort(score_NS[mask])
    low, high = np.searchsorted(others, own, "left"), np.searchsorted(others, own, "right")
    return float(((low + high) / 2 / len(others)).mean()), float((score_NS.argmax(1) == owner_N).mean())


def main() -> None:
    """Render, detect, embed, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=5, help="of each besides the reference")
    parser.add_argument("--size", type=int, default=128)
    ships = [name for name, choice in CHOICES.items() if choice.ships]
    parser.add_argument("--recognisers", nargs="+", choices=ships, default=ships)
    given = parser.parse_args()
    detector = FaceDetector()
    recognisers = [recogniser_of(name, None, "cpu") for name in given.recognisers]
    for name, (frontal, scale) in FRAMINGS.items():
        jobs = [(s, i) for s in range(given.people) for i in range(given.pictures + 1)]
        images = np.stack([photograph(HELD_OUT + s, i, frontal, scale, given.size) for s, i in jobs])
        best = [[face] if (face := largest(found)) else [] for found in detector(images)]
        found = np.array([bool(face) for face in best])
        print(f"{name}: faces found {found.mean():.1%} of {len(found)}")
        owner, index = np.array(jobs)[found].T
        for recogniser in recognisers:
            vector = recogniser.embed(images, best).numpy()
            references = {s: v for s, i, v in zip(owner, index, vector, strict=True) if i == 0}
            known = np.isin(owner, list(references)) & (index > 0)
            order = sorted(references)
            place = {s: k for k, s in enumerate(order)}
            places, reference = [place[s] for s in owner[known]], np.stack([references[s] for s in order])
            auc, rank1 = verification(vector[known], np.array(places), reference)
            own = (vector[known] * reference[places]).sum(1)
            others = (vector[known] @ reference.T).sum(1) - own
            print(
                f"  {recogniser.name}: AUC {auc:.3f}, rank-1 of {len(order)} {rank1:.2f}, "
                f"mean cosine {own.mean():.2f} to the own reference, "
                f"{(others / (len(order) - 1)).mean():.2f} to others"
            )


if __name__ == "__main__":
    main()
