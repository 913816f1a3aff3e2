"""How much of a person a reference's embedding tells: a linear map from it to the judge's embedding.

    python experiments/nano/probe_reference_encoder.py ENCODER SHARD... [--pictures 1600]
The map is fitted on the shards' people; asked is, of held-out people, whether their true pictures lie nearer
to what their reference foretells than other people's do. Nothing is trained on the judge. Gate: AUC >= 0.97.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import evaluate_people
import head_crops
import numpy as np
import shards
import torch

from fdlab.assets import resolve
from fdlab.measure.faces import FaceDetector
from fdlab.measure.faces.recogniser import FaceRecogniser
from fdlab.metrics import identity
from fdlab.models.parts import load_part
from fdlab.people import benchmark, picture

RIDGES = (0.003, 0.03, 0.1, 0.3)


@torch.no_grad()
def main() -> None:
    """Fit, foretell, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoder")
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=1600)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--prompts", default="1,3,5,15")
    given = parser.parse_args()
    shard = shards.load(given.shards)
    rows = np.nonzero(~shard.held_N & shard.found_N.numpy())[0][: given.pictures]
    encoder, judge, detector = (
        load_part("image_encoder", resolve(given.encoder)),
        FaceRecogniser(),
        FaceDetector(),
    )
    encoder.set_attn_implementation("eager")
    x = head_crops.embed(encoder, shard.images_NHW3[rows], shard.people_NHW[rows], shard.landmarks_N52[rows])
    targets = []
    for some in np.array_split(rows, max(1, len(rows) // 64)):
        image = torch.from_numpy(shard.images_NHW3[some]).permute(0, 3, 1, 2).float()
        chips = judge.chips(image, torch.arange(len(some)), shard.landmarks_N52[some])
        targets.append(judge.normalised(judge.network(chips).float()))
    y = torch.cat(targets).double()
    subjects = range(given.first, given.first + given.people)
    images, people = evaluate_people.references(subjects)
    asked = head_crops.embed(encoder, images, people, shards.faces(images)[0])
    prompts = [int(p) for p in given.prompts.split(",")]
    real = np.stack(
        [picture.render(benchmark.spec(k, "real", p), 128).image_HW3 for k in subjects for p in prompts]
    )
    faces = [face[:1] for face in detector(real)]
    has, own = np.array([bool(face) for face in faces]), np.repeat(np.arange(given.people), len(prompts))
    seen = np.zeros((len(real), judge.dim))
    seen[has] = judge.embed(real, faces).numpy()
    mean, spread = x.mean(0), x.std(0) + 1e-6
    known = torch.cat([(x - mean) / spread, torch.ones(len(x), 1)], 1).double()
    ask = torch.cat([(asked - mean) / spread, torch.ones(len(asked), 1)], 1).double()
    best = 0.0
    for ridge in RIDGES:
        gram = known.T @ known + ridge * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
        foretold = (ask @ torch.linalg.solve(gram, known.T @ y)).numpy()
        best = max(best, float(identity.auc(identity.cosine(seen, foretold), own, has)))
    print(f"probe AUC {best:.3f} ({len(rows)} pictures)")


if __name__ == "__main__":
    main()
