"""`fdlab leaderboard card RECORD`: a model card with the numbers."""

from __future__ import annotations

from pathlib import Path

from fdlab.cli.leaderboard.output import put
from fdlab.cli.options import parser


def main(argv: list[str]) -> int:
    """Run the sub-command."""
    made = parser(
        "leaderboard card",
        "Write a README for a model hub, with the record's numbers in the `model-index` metadata that\n"
        "huggingface_hub reads.",
        epilog="example: python -m fdlab leaderboard card runs/sdm/a --out runs/sdm/a/model/README.md",
    )
    made.add_argument("record", metavar="RECORD", help="a run, its folder evaluation, or a record.json")
    made.add_argument("--out", metavar="FILE", help="write there in place of printing")
    arguments = made.parse_args(argv)

    from fdlab.leaderboard import compare
    from fdlab.publishing import card

    put(card.text(compare.locate(Path(arguments.record))), arguments.out)
    return 0
