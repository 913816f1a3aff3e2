"""`fdlab leaderboard`: every record below the folders, checked, as one table for each comparable group; or
two records, pair by pair."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.cli.leaderboard.output import cache, put, writing
from fdlab.cli.options import Parser, parser
from fdlab.errors import UserError, nearest, unknown

if TYPE_CHECKING:
    import argparse

    from fdlab.leaderboard.published import Quoted

FORMATS = ("terminal", "markdown", "json", "csv", "latex")
MOST_THUMBNAILS = 1000


SUBCOMMANDS = {
    "diff": "what tells two runs apart",
    "submit": "pack a run for others to check",
    "verify": "check a packed run claim by claim",
    "card": "a model card with the numbers",
}
"""The first argument may be one of these; `./diff` is a folder of that name."""


def main(argv: list[str]) -> int:
    """Run the verb; status 2 if a record breaks the contract (the others are shown all the same)."""
    if argv and argv[0] in SUBCOMMANDS:
        module = importlib.import_module(f"fdlab.cli.leaderboard.{argv[0]}")
        return int(module.main(argv[1:]))
    _check_first(argv[:1])
    arguments = _parser().parse_args(argv)

    if arguments.metrics:
        from fdlab.metrics import registry

        put(registry.listing(), arguments.out)
        return 0
    if arguments.schema:
        from fdlab.records import schema

        put(schema.FILE.read_text(encoding="utf-8"), arguments.out)
        return 0
    if arguments.out and arguments.format == "terminal":
        raise UserError("--out needs --format markdown, json, csv or latex.")
    if arguments.thumbnails and not arguments.page:
        raise UserError("--thumbnails are part of a page: give --page FILE as well.")
    if not 0 <= arguments.thumbnails <= MOST_THUMBNAILS:
        raise UserError(f"--thumbnails={arguments.thumbnails}: give a number from 0 to {MOST_THUMBNAILS}.")
    if arguments.compare:
        return _compare(arguments)
    return _list(arguments)


def _check_first(words: list[str]) -> None:
    """Raises: UserError where the first argument is no folder and much like a sub-command."""
    for word in words:
        guess = "" if word.startswith("-") or Path(word).exists() else nearest(word, SUBCOMMANDS)
        if guess:
            raise UserError(
                f"no folder and no sub-command '{word}'; sub-commands: {', '.join(SUBCOMMANDS)}. "
                f"Did you mean '{guess}'?"
            )


def _parser() -> Parser:
    made = parser(
        "leaderboard",
        "Every record.json below the folders, checked; one table for each comparable group, best first.\n"
        "With --compare, two records picture by picture. Sub-commands, each with --help:\n"
        + "\n".join(f"  {name:<8}{what}" for name, what in SUBCOMMANDS.items()),
        epilog="examples:\n"
        "  python -m fdlab leaderboard runs --page leaderboard.html\n"
        "  python -m fdlab leaderboard runs --format markdown --out leaderboard.md\n"
        "  python -m fdlab leaderboard diff runs/sdm/a runs/sdm/b",
    )
    add = made.add_argument
    add(
        "folders",
        nargs="*",
        metavar="DIR",
        help="folders to look in (default: runs and experiments, where they exist)",
    )
    add(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two runs (or records) of one benchmark: paired differences B - A with 95 %% intervals",
    )
    add("--page", metavar="FILE", help="also write everything as one HTML page, to sort, search and compare")
    add(
        "--thumbnails",
        metavar="N",
        type=int,
        default=0,
        help="small pictures of each row that lie in the page itself: for one that travels alone",
    )
    add("--from-wandb", metavar="ENTITY/PROJECT", help="also the records of a project's runs")
    add("--to-wandb", metavar="[ENTITY/]PROJECT", help="log the tables and some pictures there")
    add("--by", metavar="METRIC", help="metric that orders the tables (default: identity_auc where measured)")
    add("--format", choices=FORMATS, default="terminal", help="how to print (default: terminal)")
    add("--out", metavar="FILE", help="write there in place of printing; needs a format other than terminal")
    add(
        "--published",
        metavar="FILE",
        help="published numbers (default: experiments/published.yaml of the checkout)",
    )
    add("--schema", action="store_true", help="print the JSON Schema of record.json")
    add("--metrics", action="store_true", help="list every metric: unit, range, direction, what it needs")
    add("--no-quoted", action="store_true", help="leave published numbers out")
    return made


def _list(arguments: argparse.Namespace) -> int:
    from fdlab.leaderboard import board, collect
    from fdlab.leaderboard.evidence import Reader
    from fdlab.publishing import formats, latex, page

    folders = [Path(folder) for folder in arguments.folders] or ([] if arguments.from_wandb else _usual())
    if arguments.from_wandb:
        folders += _fetched(arguments.from_wandb)
    entries, problems = collect.find(folders)
    groups = collect.group(entries, arguments.by)
    quoted = [] if arguments.no_quoted else _quoted(arguments.published)
    look = Reader()
    made = board.make(groups, quoted, look)
    if arguments.page:
        with writing(arguments.page):
            page.write(made, Path(arguments.page), look, carried=arguments.thumbnails)
    if arguments.to_wandb:
        from fdlab.publishing import wandb_runs

        entity, _, project = arguments.to_wandb.rpartition("/")
        print(f"logged to {wandb_runs.log(made, project, look, entity or None)}", file=sys.stderr)
    if arguments.format == "terminal":
        if not groups:
            where = ", ".join(str(folder) for folder in folders) or "runs, experiments (neither exists)"
            print(f"no records below {where}; make one with: python -m fdlab train +exp=sdm")
        formats.show(made)
    else:
        write = {
            "markdown": formats.markdown, "json": formats.as_json, "csv": formats.as_csv, "latex": latex.text,
        }  # fmt: skip
        put(write[arguments.format](made), arguments.out)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _compare(arguments: argparse.Namespace) -> int:
    from fdlab.leaderboard import compare
    from fdlab.publishing import compare_formats

    if arguments.folders or arguments.by or arguments.published or arguments.page:
        raise UserError("--compare takes two runs or records and no DIR, --by or --published, nor --page.")
    a, b = (compare.locate(Path(given)) for given in arguments.compare)
    made = compare.compare(a, b)
    if arguments.format == "terminal":
        compare_formats.show(made)
        return 0
    write = {
        "markdown": compare_formats.markdown,
        "json": compare_formats.as_json,
        "csv": compare_formats.as_csv,
    }
    if arguments.format not in write:
        raise unknown("--format of a comparison", arguments.format, ("terminal", *write))
    put(write[arguments.format](made), arguments.out)
    return 0


def _fetched(project: str) -> list[Path]:
    """Fetch a project's records below the cache; a line on stderr for each run without one."""
    from fdlab import escape
    from fdlab.publishing import wandb_runs

    where, without = wandb_runs.fetch(project, cache() / "wandb")
    for line in without:
        print(escape.visible(f"note: {line}"), file=sys.stderr)
    return [where] if where.is_dir() else []


def _usual() -> list[Path]:
    folders = [Path(os.environ.get("FDLAB_RUNS", "runs")), Path("experiments")]
    return [folder for folder in folders if folder.is_dir()]


def _quoted(given: str | None) -> list[Quoted]:
    from fdlab.leaderboard import published

    if given is None and not published.DEFAULT.is_file():
        return []
    return published.load(Path(given) if given else published.DEFAULT)
