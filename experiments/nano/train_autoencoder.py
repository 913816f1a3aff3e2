"""Train the nano autoencoder on packed pictures for a given time. Run again to go on.

    python experiments/nano/train_autoencoder.py DATA OUT --minutes 60
DATA is a folder that experiments/nano/pack.py made. A kill loses a hundred steps at most.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from stopping import leave

from fdlab.pretraining.autoencoder import pretrain


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="in all, resumed parts included")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--kl-weight", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more only on an idle machine")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    finished = pretrain(
        given.data, given.out, given.minutes, given.batch_size, given.lr, given.kl_weight, given.seed
    )
    leave(finished)


if __name__ == "__main__":
    main()
