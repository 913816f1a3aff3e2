"""Train the SDM's image encoder to know people. Run again to go on.

    python experiments/nano/train_reference_encoder.py OUT SHARD... --minutes 15
All blocks of a CLIP image encoder learn, on heads: the renderer's parameters of the person (regression),
which two crops show the same person, and the person's mean faceres embedding (distilled: faceres is no
independent judge of what these weights draw; dlib, the judge, is never used).
Gate: probe_reference_encoder.py.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import head_crops
import numpy as np
import shards
import torch
import torch.nn.functional as F
from identity_targets import vector
from stopping import WhenAsked, leave
from torch import Tensor, nn

from fdlab import files
from fdlab.assets import resolve
from fdlab.errors import UserError
from fdlab.models.parts import load_part
from fdlab.muon import Muon

COMPONENTS = 192
"""Of faceres' embeddings, by principal component; fewer where there are fewer people."""


class Teacher:
    """What is known of each person: targets by row, rows by person."""

    def __init__(self, shard: shards.Shard) -> None:
        rows = np.nonzero(shard.found_N.numpy())[0]
        numbers, person = np.unique(shard.identity_N[rows], return_inverse=True)
        self.rows_of = [rows[person == k] for k in range(len(numbers))]
        held = numbers % shards.TEST_EVERY == shards.TEST_EVERY - 1
        several = np.array([len(r) > 1 for r in self.rows_of])
        self.train = np.nonzero(~held & several)[0]
        self.held = np.nonzero(held & several)[0]
        mean = torch.zeros(len(numbers), shard.faceres_NE.shape[1])
        mean.index_add_(0, torch.from_numpy(person), shard.faceres_NE[torch.from_numpy(rows)])
        mean = F.normalize(mean, dim=1)
        centre = mean[~held].mean(0)
        basis = torch.linalg.svd(mean[~held] - centre, full_matrices=False)[2][:COMPONENTS]
        self.faceres = F.normalize((mean - centre) @ basis.T, dim=1)
        known = np.stack([vector(int(n)) for n in numbers])
        spread = known[~held].std(0)
        self.weight = torch.from_numpy(np.minimum(spread, 3.0))
        self.vector = torch.from_numpy((known - known[~held].mean(0)) / np.maximum(spread, 1e-3))


class Heads(nn.Module):
    """Linear maps from the normalised embedding to the three targets; thrown away after the training."""

    def __init__(self, width: int, num: int, components: int) -> None:
        super().__init__()
        self.vector, self.faceres = nn.Linear(width, num), nn.Linear(width, components)
        self.person = nn.Linear(width, 96, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def losses(self, e_BE: Tensor, people: Tensor, teacher: Teacher) -> dict[str, Tensor]:
        """Rows: first crops of all people, then second crops in the same order."""
        x, num = F.layer_norm(e_BE.float(), e_BE.shape[1:]), len(people)
        twice, device = people.repeat(2), e_BE.device
        error = (self.vector(x) - teacher.vector[twice].to(device)).square() * teacher.weight.to(device)
        h = F.normalize(self.person(x), dim=1)
        same = self.log_scale.exp().clamp(max=60) * h @ h.T - 1e4 * torch.eye(2 * num, device=device)
        q = F.normalize(self.faceres(x), dim=1)
        target = teacher.faceres.to(device)
        return {
            "vector": error.mean() / teacher.weight.mean(),
            "person": F.cross_entropy(same, torch.arange(2 * num, device=device).roll(num)),
            "cosine": 1 - (q * target[twice]).sum(1).mean(),
            "faceres": F.cross_entropy(20 * q @ target[people].T, torch.arange(num, device=device).repeat(2)),
        }


WEIGHTS = {"vector": 1.0, "person": 0.2, "cosine": 2.0, "faceres": 0.3}


def auc(similarity: Tensor, same: Tensor) -> float:
    """How often two crops of one person are more alike than two of different people."""
    off = ~torch.eye(len(same), dtype=torch.bool)
    different = similarity[~same].sort().values
    return float((torch.searchsorted(different, similarity[same & off]).double() / len(different)).mean())


@torch.no_grad()
def check(encoder: Any, heads: Heads, shard: shards.Shard, teacher: Teacher) -> dict[str, float]:
    """On people that no step sees; nothing where there are none."""
    if not len(teacher.held):
        return {}
    rows = np.concatenate([teacher.rows_of[k] for k in teacher.held])
    person = torch.tensor([k for k in teacher.held for _ in teacher.rows_of[k]])
    encoder.eval()
    e = head_crops.embed(encoder, shard.images_NHW3[rows], shard.people_NHW[rows], shard.landmarks_N52[rows])
    encoder.train()
    q = F.normalize(heads.cpu().faceres(F.layer_norm(e, e.shape[1:])), dim=1)
    own = (q * teacher.faceres[person]).sum(1).mean()
    return {"cosine": float(own), "auc": auc(q @ q.T, person[:, None] == person[None])}


def said(scores: dict[str, float], shard: shards.Shard) -> str:
    """The scores, or why there are none."""
    if scores:
        return str(scores)
    num = len(shard)
    return f"no score: of {num} pictures no two show the face of the same held-out person; give more for one"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, required=True, help="in all, resumed parts included")
    parser.add_argument("--start", default="asset:nano/image_encoder")
    parser.add_argument("--people", type=int, default=64, help="a step, two crops each")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--jitter", type=float, default=0.06)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Train for a time, by CPU or wall clock; keep a state every two minutes."""
    given = arguments()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.device == "cpu" else time.monotonic
    shard = shards.load(given.shards)
    teacher = Teacher(shard)
    if not len(teacher.train):
        raise UserError(f"of {len(shard)} pictures no two show the same person's face; give more of them.")
    encoder = load_part("image_encoder", resolve(given.start))
    encoder.set_attn_implementation("eager" if given.device == "cpu" else "sdpa")
    encoder.to(given.device).requires_grad_(True).train()
    torch.manual_seed(0)
    sizes = teacher.vector.shape[1], teacher.faceres.shape[1]
    heads = Heads(encoder.config.projection_dim, *sizes).to(given.device)
    named = [*encoder.named_parameters(prefix="encoder"), *heads.named_parameters(prefix="heads")]
    optimizer = Muon(named, lr=given.lr, adam_lr=0.07 * given.lr, weight_decay=0.02)
    step, before, path = 0, 0.0, given.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=given.device)
        encoder.load_state_dict(state["encoder"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step, before = state["step"], state["spent"]
    given.out.mkdir(parents=True, exist_ok=True)
    rng, start, kept, spent = np.random.default_rng([1, step]), clock(), time.monotonic(), before

    def keep() -> None:
        state = {"encoder": encoder.state_dict(), "heads": heads.state_dict(), "step": step, "spent": spent}
        with files.whole(path) as temporary:
            torch.save({**state, "optimizer": optimizer.state_dict()}, temporary)

    stop = WhenAsked()
    while (done := spent / (60 * given.minutes)) < 1 and not stop.asked:
        people = rng.choice(teacher.train, min(given.people, len(teacher.train)), replace=False)
        rows = np.array([rng.choice(teacher.rows_of[k], 2, replace=False) for k in people]).T.reshape(-1)
        x = head_crops.crops(
            shard.images_NHW3[rows],
            shard.people_NHW[rows],
            shard.landmarks_N52[rows],
            encoder.config.image_size,
            rng,
            given.jitter,
            True,
        )
        with torch.autocast(given.device, torch.bfloat16):
            e_BE = encoder(pixel_values=x.to(given.device)).image_embeds
        losses = heads.losses(e_BE, torch.from_numpy(people), teacher)
        torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.set_share(min(1, (step + 1) / 10) * min(1.0, (1 - done) / 0.5))
        optimizer.step()
        optimizer.zero_grad()
        step, spent = step + 1, before + clock() - start
        if step % 100 == 0:
            line = {"step": step, "seconds": round(spent)} | {
                k: round(float(v), 4) for k, v in losses.items()
            }
            line |= {f"held_{k}": round(v, 4) for k, v in check(encoder, heads, shard, teacher).items()}
            heads.to(given.device)
            print(json.dumps(line), flush=True)
        if time.monotonic() - kept > 120:
            keep()
            kept = time.monotonic()
    keep()
    if done < 1:
        leave(False)
    scores = check(encoder, heads, shard, teacher)
    encoder.eval().cpu().save_pretrained(given.out / "image_encoder")
    told = {"taught_by": ["faceres"], "people": [shard.shown()]}
    files.write_json(given.out / "image_encoder/training.json", told)
    files.write_json(given.out / "scores.json", {"steps": step, "seconds": spent, **scores})
    print(said(scores, shard))


if __name__ == "__main__":
    main()
