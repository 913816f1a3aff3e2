"""`fdlab data`: render people, check a folder, count what is in it, make a benchmark."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from fdlab.assets import resolve
from fdlab.cli.options import parser, positive
from fdlab.data.annotation import LABEL

MIXES = ("portraits", "scenes", "all", "aligned-portraits", "aligned-scenes", "aligned-all")
SPLITS = ("all", "train", "test")


def _labels(text: str) -> tuple[str, ...] | None:
    return None if text == "all" else tuple(word.strip() for word in text.split(",") if word.strip())


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    arguments = _arguments().parse_args(argv)
    verbs = {"render": _render, "check": _check, "stats": _stats, "convert": _convert}
    return int(verbs[arguments.verb](arguments))


def _arguments() -> argparse.ArgumentParser:
    top = parser("data", "Render people, check a folder of pictures, count what is in it, make a benchmark.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="{render,check,stats,convert}")
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
        verb.add_argument(
            "--labels",
            type=_labels,
            default=(LABEL,),
            help=f"coco_label of subjects, with commas between; all: every one (default: {LABEL})",
        )
    check.add_argument(
        "--skip-corrupt", action="store_true", help="list what cannot be used in place of stopping"
    )
    check.add_argument(
        "--tokenizer",
        default="asset:nano/tokenizer",
        help="folder of the backbone's tokenizer, whose tokens must reach every subject (default: nano's)",
    )
    check.add_argument(
        "--reference-crop",
        choices=("person", "head"),
        default="person",
        help="as the backbone's reference_crop: head, which is nano's, needs a face of everybody "
        "(default: person)",
    )
    _add_convert(verbs)
    return top


def _add_convert(verbs: Any) -> None:
    from fdlab.benchmarks.convert import fastcomposer

    convert = verbs.add_parser("convert", help="make a benchmark folder of photos and prompts")
    kinds = convert.add_subparsers(
        dest="kind", required=True, metavar="{people-folder,fastcomposer-benchmark}"
    )
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


def _render(arguments: argparse.Namespace) -> int:
    from fdlab.data.rendered import render

    a = arguments
    render(a.folder, a.mix, a.num, a.seed, size=a.size, workers=a.workers)
    print(a.folder)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from fdlab.data.check import check
    from fdlab.models.tokenizer import load_tokenizer

    a = arguments
    tokenizer = load_tokenizer(resolve(a.tokenizer))
    crop = None
    if a.reference_crop == "head":
        from fdlab.measure.faces import HeadCrop

        crop = HeadCrop()
    report = check(a.folder, tokenizer, a.split, a.labels, skip_corrupt=a.skip_corrupt, crop=crop)
    for line in report.skipped.values():
        print(f"corrupt: {line}")
    print(f"{report.num_samples} samples with {report.num_subjects} subjects, {len(report.skipped)} corrupt")
    return 1 if report.skipped else 0


def _convert(arguments: argparse.Namespace) -> int:
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


def _stats(arguments: argparse.Namespace) -> int:
    from fdlab.data.layout import read_annotation, read_ids

    subjects: Counter[int] = Counter()
    words: Counter[str] = Counter()
    ids = read_ids(arguments.folder, arguments.split)
    for name in ids:
        annotation = read_annotation(arguments.folder, name, arguments.labels)
        subjects[len(annotation.subjects)] += 1
        words.update(annotation.caption.lower().replace(",", " ").replace(".", " ").split())
    print(f"pictures               {len(ids)}")
    for number, count in sorted(subjects.items()):
        print(f"with {number} subjects        {count}")
    each = sum(words.values()) / max(1, len(ids))
    print(f"words in captions      {each:.1f} a picture, {len(words)} different")
    print("most frequent          " + ", ".join(word for word, _ in words.most_common(20)))
    return 0
