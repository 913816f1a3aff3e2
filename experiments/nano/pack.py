"""Pack a rendered folder for the training of the small networks.

python experiments/nano/pack.py PEOPLE OUT [--split train] [--limit N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fdlab.pretraining.packed import pack


def main() -> None:
    """Parse and pack."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder in FastComposer's layout")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--split", default="train", choices=("all", "train", "test"))
    parser.add_argument("--limit", type=int, default=0, help="only the first so many pictures")
    given = parser.parse_args()
    num = pack(given.root, given.out, given.size, given.crop_size, given.split, given.limit)
    print(num, "pictures packed")


if __name__ == "__main__":
    main()
