"""`fdlab leaderboard verify FILE`: check a packed run claim by claim."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from fdlab.cli.leaderboard.output import cache
from fdlab.cli.options import Parser, parser


def main(argv: list[str]) -> int:
    """Run the sub-command. Returns 0 where all that can be checked holds, 1 where anything does not."""
    arguments = _parser().parse_args(argv)

    from fdlab import escape
    from fdlab.config.compose import compose
    from fdlab.evaluation.requirements import device_of
    from fdlab.submissions import claims, packing, verify

    # A wrong word is the checker's own fault, and said before anything is unpacked.
    compose(arguments.words, "evaluate")
    here = verify.Here(
        cache=cache(),
        benchmark=Path(arguments.benchmark) if arguments.benchmark else None,
        board=[Path(folder) for folder in arguments.board],
        measure=not arguments.no_measuring,
        redraw=arguments.redraw,
        redraw_seed=secrets.randbelow(10**9) if arguments.redraw_seed is None else arguments.redraw_seed,
        device=device_of(arguments.accelerator),
        words=arguments.words,
    )
    counts, unmeasured = dict.fromkeys(claims.STATES, 0), ""
    with packing.opened(Path(arguments.file)) as found:
        for claim in verify.verify(found, here):
            counts[claim.state] += 1
            of_scores = claim.what == claims.SCORES or claim.what.endswith(claims.AGAIN)
            if claim.state == claims.OPEN and of_scores:
                unmeasured = unmeasured or f"{claim.what}: {claim.why}"
            print(escape.visible(f"{claim.state:<18} {claim.what:<36} {claim.why}").rstrip())
    print("; ".join(f"{num} {state}" for state, num in counts.items()))
    if arguments.strict and unmeasured:
        print(f"--strict: the scores were not measured again: {unmeasured}")
    return 1 if counts[claims.FAILS] or (arguments.strict and unmeasured) else 0


def _parser() -> Parser:
    made = parser(
        "leaderboard verify",
        "Check a packed run: digests, schema, values and intervals from single pictures, rank on a board;\n"
        "with pictures and the benchmark also the scores, with the weights some pictures.\n"
        "Exit status: 0 all that can be checked holds, 1 something does not, 2 it is no submission.",
        epilog="example: python -m fdlab leaderboard verify a.zip --board experiments/leaderboard",
    )
    made.add_argument("file", metavar="FILE", help="what `leaderboard submit` wrote")
    made.add_argument(
        "--benchmark", metavar="DIR", help="folder of its benchmark (default: one rendered before)"
    )
    made.add_argument("--board", metavar="DIR", nargs="*", default=[], help="records to rank it among")
    made.add_argument("--no-measuring", action="store_true", help="do not measure its pictures again")
    made.add_argument(
        "--redraw", metavar="N", type=_count, default=4, help="pictures to draw again (default: 4)"
    )
    made.add_argument(
        "--redraw-seed",
        metavar="N",
        type=_count,
        help="which pictures these are (default: another each time)",
    )
    made.add_argument(
        "--with",
        dest="words",
        metavar="KEY=VALUE",
        nargs="*",
        default=[],
        help="as for `evaluate`: weights and networks here that do not ship, such as sdm=FOLDER or"
        " evaluation.recogniser=arcface; a submission names no file that is opened here",
    )
    made.add_argument(
        "--strict", action="store_true", help="exit status 1 too where scores were not measured again"
    )
    made.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto")
    return made


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)
