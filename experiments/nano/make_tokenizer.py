"""Make the nano tokenizer and scheduler config from captions of rendered people (no picture is rendered).

python experiments/nano/make_tokenizer.py fdlab/assets/nano
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fdlab import files
from fdlab.data.rendered import spec_of
from fdlab.models.nano import SCHEDULER
from fdlab.models.tokenizer import train_tokenizer
from fdlab.people.picture import MIXES, describe

CAPTIONS = 6000
"""Captions of each mix."""


def main() -> None:
    """Write tokenizer/ and scheduler/."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    captions = [describe(spec_of(mix, CAPTIONS, 0, i))[0] for mix in MIXES for i in range(CAPTIONS)]
    train_tokenizer(captions, given.out / "tokenizer")
    files.write_json(given.out / "scheduler" / "scheduler_config.json", SCHEDULER)


if __name__ == "__main__":
    main()
