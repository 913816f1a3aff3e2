"""Render people into shards and keep what frozen networks say of them. Run again to go on.

A kill loses twenty pictures of a shard at most, and what the networks say of it.

    python experiments/nano/make_shards.py MIX NUM SEED OUT [--first A] [--last B] [--pairs] [--device cuda]
Kept are pictures of one person, or with --pairs those of two. NUM decides, with SEED, who is in which
picture: eight pictures a person where all NUM are rendered.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import shards
import torch

from fdlab.errors import UserError
from fdlab.models.backbone import load_backbone

PIECE = 20
"""Pictures rendered between two savings: some four seconds of a core."""


def rendered(folder: Path, mix: str, num: int, seed: int, first: int, last: int, each: int) -> dict[str, Any]:
    """As `shards.render`, from pieces kept in `folder`, where a run that was cut off left some.

    Raises: UserError where no picture shows `each` people.
    """
    folder.mkdir(exist_ok=True)
    pieces = []
    for start in range(first, last, PIECE):
        path = folder / f"{start:06d}.npz"
        if not path.exists():
            shards.write(path, shards.render(mix, num, seed, start, min(start + PIECE, last), each))
        pieces.append(shards.read(path))
    made = shards.pieced(pieces)
    if not len(made["images"]):
        raise UserError(
            f"of the pictures {first} to {last - 1} of '{mix}' none shows {each} people; take more."
        )
    return made


def main() -> None:
    """Render, look, encode, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mix")
    parser.add_argument("num", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--last", type=int)
    parser.add_argument("--size", type=int, default=500, help="pictures a shard")
    parser.add_argument("--pairs", action="store_true", help="the pictures of two people")
    parser.add_argument("--backbone", default="asset:nano")
    parser.add_argument("--vae", type=Path, help="in place of the backbone's")
    parser.add_argument("--text-encoder", type=Path, help="in place of the backbone's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    own = {"vae": given.vae, "text_encoder": given.text_encoder}
    backbone = load_backbone(given.backbone, own, ("vae", "text_encoder", "tokenizer")).to(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    kind = f"{given.mix}-pairs" if given.pairs else given.mix
    for first in range(given.first, given.last or given.num, given.size):
        last = min(first + given.size, given.last or given.num)
        path = given.out / f"{kind}-{given.num}-{given.seed}-{first:06d}-{last:06d}.npz"
        if path.exists():
            continue
        pieces = path.with_suffix(".pieces")
        made = rendered(pieces, given.mix, given.num, given.seed, first, last, 2 if given.pairs else 1)
        num = len(made["images"])
        seen = shards.nobody(num) if given.pairs else shards.faces(made["images"], given.device)
        shards.save(path, made, shards.describe(backbone, made, given.device), seen)
        shutil.rmtree(pieces)
        print(path.name, f"pictures {num}, faces found {float(seen[1].float().mean()):.3f}", flush=True)


if __name__ == "__main__":
    main()
