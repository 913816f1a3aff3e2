"""`fdlab data`: render people, check a folder, count what is in it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from fdlab.cli.options import parser, positive

MIXES = ("portraits", "scenes", "all")
SPLITS = ("all", "train", "test")


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    arguments = _arguments().parse_args(argv)
    return int({"render": _render, "check": _check, "stats": _stats}[arguments.verb](arguments))


def _arguments() -> argparse.ArgumentParser:
    top = parser("data", "Render people, check a folder of pictures, count what is in it.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="{render,check,stats}")
    render = verbs.add_parser("render", help="render people into a folder, in FastComposer's layout")
    render.add_argument(
        "folder", type=Path, help="where to; an interrupted rendering goes on where it stopped"
    )
    render.add_argument("--mix", choices=MIXES, default="all", help="what to show (default: all)")
    render.add_argument("--num", type=positive, default=1000, help="pictures (default: 1000)")
    render.add_argument("--seed", type=int, default=0, help="of people and pictures (default: 0)")
    render.add_argument("--size", type=positive, default=128, help="pixels a side (default: 128)")
    render.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    check = verbs.add_parser("check", help="read every sample and name the first that is wrong")
    stats = verbs.add_parser("stats", help="count pictures, subjects and words")
    for verb in (check, stats):
        verb.add_argument("folder", type=Path, help="folder in FastComposer's layout")
        verb.add_argument("--split", choices=SPLITS, default="all", help="ids to read (default: all)")
    check.add_argument(
        "--max-subjects", type=positive, default=4, help="most subjects a picture may have (default: 4)"
    )
    check.add_argument(
        "--skip-corrupt", action="store_true", help="list what cannot be read in place of stopping"
    )
    return top


def _render(arguments: argparse.Namespace) -> int:
    from fdlab.people.dataset import render

    a = arguments
    render(a.folder, a.mix, a.num, a.seed, size=a.size, workers=a.workers)
    print(a.folder)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from fdlab.data.check import check

    report = check(
        arguments.folder, arguments.split, arguments.max_subjects, skip_corrupt=arguments.skip_corrupt
    )
    for line in report.skipped.values():
        print(f"corrupt: {line}")
    print(f"{report.num_samples} samples with {report.num_subjects} subjects, {len(report.skipped)} corrupt")
    return 1 if report.skipped else 0


def _stats(arguments: argparse.Namespace) -> int:
    from fdlab.data.layout import read_annotation, read_ids

    subjects: Counter[int] = Counter()
    words: Counter[str] = Counter()
    ids = read_ids(arguments.folder, arguments.split)
    for name in ids:
        annotation = read_annotation(arguments.folder, name)
        subjects[len(annotation.subjects)] += 1
        words.update(annotation.caption.lower().replace(",", " ").replace(".", " ").split())
    print(f"pictures               {len(ids)}")
    for number, count in sorted(subjects.items()):
        print(f"with {number} subjects        {count}")
    each = sum(words.values()) / max(1, len(ids))
    print(f"words in captions      {each:.1f} a picture, {len(words)} different")
    print("most frequent          " + ", ".join(word for word, _ in words.most_common(20)))
    return 0
