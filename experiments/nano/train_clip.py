"""Train the nano text and image encoders on packed people for a given time. Run again to go on.

    python experiments/nano/train_clip.py DATA TOKENIZER OUT --minutes 60
DATA is a folder that experiments/nano/pack.py made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from stopping import leave

from fdlab.pretraining.clip import pretrain


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="in all, resumed parts included")
    parser.add_argument("--people", type=int, default=40, help="persons a step, two cut-outs each")
    parser.add_argument("--pictures", type=int, default=48, help="whole pictures a step")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    finished = pretrain(
        given.data,
        given.tokenizer,
        given.out,
        given.minutes,
        given.people,
        given.pictures,
        given.lr,
        given.seed,
    )
    leave(finished)


if __name__ == "__main__":
    main()
