"""`fdlab data convert people-folder | fastcomposer-benchmark`: a benchmark of photos and prompts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fdlab.cli.options import parser, positive

KINDS = ("people-folder", "fastcomposer-benchmark")


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    return _run(_arguments().parse_args(argv))


def _arguments() -> argparse.ArgumentParser:
    from fdlab.benchmarks.convert import fastcomposer

    top = parser("data convert", "Make a benchmark folder of photos and prompts.")
    kinds = top.add_subparsers(dest="kind", required=True, metavar="{people-folder,fastcomposer-benchmark}")
    people = kinds.add_parser("people-folder", help="any folder of people and any list of prompts")
    people.add_argument(
        "photos", type=Path, help="PHOTOS/PERSON/*.jpg (others are held out) or PHOTOS/PERSON.jpg"
    )
    people.add_argument("prompts", type=Path, help="one a line, as in: a {noun} <|image|> on a beach")
    people.add_argument("out", type=Path, help="folder to write, for benchmark=own benchmark.folder=OUT")
    people.add_argument(
        "--noun",
        action="append",
        default=[],
        metavar="PERSON=NOUN",
        help="repeat it; NOUN alone is for all others",
    )
    people.add_argument("--size", type=positive, default=128, help="pixels the backbone draws (default: 128)")
    people.add_argument("--images", type=positive, default=1, help="images a prompt (default: 1)")
    people.add_argument(
        "--pairs", action="store_true", help="draw all pairs; prompts have {noun} and {noun2}"
    )
    people.add_argument("--name", help="as records call it (default: the folder's)")
    published = kinds.add_parser(
        "fastcomposer-benchmark",
        help="FastComposer's subjects and prompts, from a checkout of its code",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"first write its prompts down:\n  {fastcomposer.EXPORT}\n"
        f"and for --pairs:\n  {fastcomposer.EXPORT_PAIRS}",
    )
    published.add_argument("checkout", type=Path, help="of mit-han-lab/fastcomposer")
    published.add_argument("out", type=Path, help="folder to write, such as benchmarks/fastcomposer_single")
    published.add_argument(
        "--photos",
        type=Path,
        help="a folder a subject, 000001/*.jpg (default: CHECKOUT/data/celeba_test_single)",
    )
    published.add_argument("--pairs", type=Path, metavar="FILE", help="all pairs, with this file's prompts")
    return top


def _run(arguments: argparse.Namespace) -> int:
    from fdlab.benchmarks.convert import fastcomposer, people_folder

    a = arguments
    if a.kind == "people-folder":
        given = [entry.rpartition("=") for entry in a.noun]
        everybody = next((noun for person, _, noun in reversed(given) if not person), people_folder.NOUN)
        nouns = {person: noun for person, _, noun in given if person}
        made = people_folder.convert(
            a.photos, a.prompts, a.out, nouns, everybody, a.size, a.images, a.pairs, a.name
        )
        for line in people_folder.skipped(a.photos):
            print(f"skipped {line}", file=sys.stderr)
        choice = "own"
    else:
        pairs = a.pairs is not None
        made = (
            fastcomposer.convert_pairs(a.checkout, a.out, a.pairs, a.photos)
            if pairs
            else fastcomposer.convert(a.checkout, a.out, a.photos)
        )
        choice = fastcomposer.MULTI if pairs else fastcomposer.SINGLE
    num = sum(1 for _ in made.cells())
    counts = f"{len(made.subjects)} people, {len(made.prompts)} prompts, {num} pictures of {made.size} pixels"
    print(f"{a.out}: {counts}")
    print(f"next: python -m fdlab evaluate benchmark={choice} benchmark.folder={a.out}")
    return 0
