"""`fdlab leaderboard diff A B`: which settings, weights and scores differ."""

from __future__ import annotations

from pathlib import Path

from fdlab.cli.leaderboard.output import put
from fdlab.cli.options import parser
from fdlab.errors import UserError


def main(argv: list[str]) -> int:
    """Run the sub-command."""
    made = parser(
        "leaderboard diff",
        "Which settings, which weights and which scores of two runs differ; scores by paired differences,\n"
        "corrected for their number.",
        epilog="example: python -m fdlab leaderboard diff runs/sdm/a runs/sdm/b",
    )
    made.add_argument("a", metavar="A", help="a run, its folder evaluation, or a record.json")
    made.add_argument("b", metavar="B", help="another")
    made.add_argument("--format", choices=("terminal", "markdown", "json"), default="terminal")
    made.add_argument("--out", metavar="FILE", help="write there in place of printing")
    arguments = made.parse_args(argv)
    if arguments.out and arguments.format == "terminal":
        raise UserError("--out needs --format markdown or json.")

    from fdlab.leaderboard import compare
    from fdlab.publishing import diff

    found = diff.diff(*(compare.locate(Path(given)) for given in (arguments.a, arguments.b)))
    if arguments.format == "terminal":
        diff.show(found)
    else:
        put((diff.markdown if arguments.format == "markdown" else diff.as_json)(found), arguments.out)
    return 0
