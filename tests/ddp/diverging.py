"""Train a line in two processes, where only the second one's loss turns none; write what each did.

    python diverging.py FOLDER
Lightning starts this script again for the second process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from fdlab.training.finite import Diverged
from tests.worlds.line import Line, train


def spoil(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
    return loss * torch.nan if n == 5 and module.global_rank == 1 else loss


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    rank = os.environ.get("LOCAL_RANK", "0")
    try:
        train(folder, Line(spoil), devices=2, strategy="ddp", accumulate=2)
        said = "done"
    except Diverged as error:
        said = str(error)
    (folder / f"rank-{rank}.txt").write_text(said)


if __name__ == "__main__":
    main()
