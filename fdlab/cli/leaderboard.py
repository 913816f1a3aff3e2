"""`fdlab leaderboard`: every record below the folders, checked, as one table for each comparable group."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.cli.options import parser

if TYPE_CHECKING:
    from fdlab.leaderboard.published import Quoted

FORMATS = ("terminal", "markdown", "json", "csv")


def main(argv: list[str]) -> int:
    """Run the verb; status 2 if a record breaks the contract (the others are shown all the same)."""
    made = parser(
        "leaderboard",
        "Every record.json below the folders, checked; one table for each comparable group, best first.",
        epilog="example: python -m fdlab leaderboard runs --format markdown --out leaderboard.md",
    )
    made.add_argument(
        "folders",
        nargs="*",
        metavar="DIR",
        help="folders to look in (default: runs and experiments, where they exist)",
    )
    made.add_argument(
        "--by", metavar="METRIC", help="metric that orders the tables (default: identity_auc where measured)"
    )
    made.add_argument(
        "--format", choices=FORMATS, default="terminal", help="how to print (default: terminal)"
    )
    made.add_argument(
        "--out", metavar="FILE", help="write there in place of printing; needs a format other than terminal"
    )
    made.add_argument(
        "--published",
        metavar="FILE",
        help="published numbers (default: experiments/published.yaml of the checkout)",
    )
    made.add_argument("--no-quoted", action="store_true", help="leave published numbers out")
    arguments = made.parse_args(argv)

    from fdlab.errors import UserError
    from fdlab.leaderboard import collect, formats

    if arguments.out and arguments.format == "terminal":
        raise UserError("--out needs --format markdown, json or csv.")
    folders = [Path(folder) for folder in arguments.folders] or _usual()
    entries, problems = collect.find(folders)
    groups = collect.group(entries, arguments.by)
    quoted = [] if arguments.no_quoted else _quoted(arguments.published)
    if arguments.format == "terminal":
        if not groups:
            where = ", ".join(str(folder) for folder in folders) or "runs, experiments (neither exists)"
            print(f"no records below {where}; make one with: python -m fdlab train +exp=sdm")
        formats.show(groups, quoted)
    else:
        write = {"markdown": formats.markdown, "json": formats.as_json, "csv": formats.as_csv}[
            arguments.format
        ]
        text = write(groups, quoted)
        if arguments.out:
            from fdlab.files import write_text

            write_text(arguments.out, text)
        else:
            print(text, end="")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _usual() -> list[Path]:
    folders = [Path(os.environ.get("FDLAB_RUNS", "runs")), Path("experiments")]
    return [folder for folder in folders if folder.is_dir()]


def _quoted(given: str | None) -> list[Quoted]:
    from fdlab.leaderboard import published

    if given is None and not published.DEFAULT.is_file():
        return []
    return published.load(Path(given) if given else published.DEFAULT)
