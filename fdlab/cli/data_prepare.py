"""`fdlab data prepare`: photos to training data."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fdlab.cli.options import parser

CONFIG = "data_prepare"


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    return _run(_arguments().parse_intermixed_args(argv))


def _arguments() -> argparse.ArgumentParser:
    top = parser(
        "data prepare",
        "Make photos training data: people found, cut out, named in captions, told apart, some held out.",
        epilog="an interrupted preparation goes on where it stopped; what a correction or a setting does "
        "not change is kept.\nDST.work/prepared.html shows all of it and saves corrections.json, which the "
        "next run honours.\nshard=0/4 does the first of four parts, in processes or on machines of their "
        "own; who finds all parts done writes DST.\n"
        "example: python -m fdlab data prepare photos people prepare.faces.small=48",
    )
    top.add_argument("source", type=Path, metavar="SRC", help="folder of photos, whichever their format")
    top.add_argument(
        "folder", type=Path, metavar="DST", help="data set to write; DST.work beside it keeps what was found"
    )
    top.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="--cfg job shows every key")
    top.add_argument("--cfg", choices=["job"], help="print the settings and exit")
    top.add_argument("--json", action="store_true", help="print the report as JSON")
    return top


def _run(arguments: argparse.Namespace) -> int:
    from fdlab.config.compose import settings_of

    a = arguments
    given = settings_of(a.overrides, CONFIG)
    if a.cfg:
        import yaml

        print(yaml.safe_dump(given, sort_keys=False), end="")
        return 0
    from fdlab.preparation import report
    from fdlab.preparation.run import prepare
    from fdlab.preparation.settings import Settings

    made = prepare(a.source, a.folder, Settings.read(given["prepare"]), given["shard"], given["workers"])
    if isinstance(made, str):
        print(made)
        return 0
    print(json.dumps(made.numbers, indent=2) if a.json else report.text(made.numbers))
    from fdlab.records import preparation_page

    print(f"page to look through and correct: {preparation_page.write(made)}", file=sys.stderr)
    if not a.json:
        print(f"{a.folder}: {made.numbers['pictures']:,} pictures")
        print(f"next: python -m fdlab train +exp=sdm data=folder data.root={a.folder}")
    return 0
