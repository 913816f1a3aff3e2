"""Train the judge on packed people (of another rendering seed) for a given time. Run again to go on.

    python experiments/nano/train_judge.py DATA TOKENIZER OUT --minutes 40 [--clip JUDGE] [--device cuda]
DATA is a folder that experiments/nano/render_judged.py (or pack.py) made. With --clip the CLIP of an earlier
judge stays as it is, and with it the CLIP score; only what answers is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from stopping import leave

from fdlab.pretraining.judge import pretrain


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="in all, resumed parts included")
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--clip", type=Path, help="a judge's folder")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    finished = pretrain(
        given.data,
        given.tokenizer,
        given.out,
        given.minutes,
        given.batch_size,
        given.lr,
        given.seed,
        clip_folder=given.clip,
        device=given.device,
    )
    leave(finished)


if __name__ == "__main__":
    main()
