"""`fdlab data`: render people; prepare photos; check, count, judge and convert data sets in any layout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fdlab.assets import resolve
from fdlab.cli import data_benchmark, data_doctor, data_prepare
from fdlab.cli.options import parser, positive
from fdlab.data.layout import SPLITS
from fdlab.data.sample import LABEL
from fdlab.errors import UserError
from fdlab.escape import visible
from fdlab.layouts.choose import LAYOUTS

MIXES = (
    "portraits", "drawings", "scenes", "all",
    "aligned-portraits", "aligned-drawings", "aligned-scenes", "aligned-all",
)  # fmt: skip
SAMPLES = 24
"""On the page of `stats`."""
SHOWN = 50
"""Problems that are printed; the list has all."""
LEAST_SIDE, MOST_SIDE = 16, 4096
"""Pixels a side of pictures that are rendered."""
SIDES = f"{LEAST_SIDE} to {MOST_SIDE}"


def _labels(text: str) -> tuple[str, ...] | None:
    return None if text == "all" else tuple(word.strip() for word in text.split(",") if word.strip())


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    if argv[:1] == ["convert"] and argv[1:2] and argv[1] in data_benchmark.KINDS:
        return data_benchmark.main(argv[1:])
    if argv[:1] == ["benchmark"]:
        return _benchmark(argv[1:])
    if argv[:1] == ["prepare"]:
        return data_prepare.main(argv[1:])
    if argv[:1] == ["doctor"]:
        return data_doctor.main(argv[1:])
    arguments = _arguments().parse_args(argv)
    verbs = {"render": _render, "check": _check, "stats": _stats, "convert": _convert}
    return int(verbs[arguments.verb](arguments))


def _arguments() -> argparse.ArgumentParser:
    top = parser(
        "data",
        "Render people; prepare photos; check, count, judge and convert data sets; measure their loading.",
    )
    names = "{render,prepare,check,stats,doctor,convert,benchmark}"
    verbs = top.add_subparsers(dest="verb", required=True, metavar=names)
    render = verbs.add_parser("render", help="render people into a folder, in FastComposer's layout")
    render.add_argument(
        "folder", type=Path, help="where to; an interrupted rendering goes on where it stopped"
    )
    render.add_argument("--mix", choices=MIXES, default="all", help="what to show (default: all)")
    render.add_argument("--num", type=positive, default=1000, help="pictures (default: 1000)")
    render.add_argument("--seed", type=int, default=0, help="of people and pictures (default: 0)")
    render.add_argument("--size", type=_side, default=128, help=f"pixels a side, {SIDES} (default: 128)")
    render.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    verbs.add_parser("prepare", help="make photos training data", add_help=False)
    check = verbs.add_parser("check", help="read every sample and name all that is wrong")
    stats = verbs.add_parser("stats", help="count pictures, people, words, faces; as text, JSON or a page")
    for verb in (check, stats):
        verb.add_argument(
            "--tokenizer",
            default="asset:nano/tokenizer",
            help="folder of the backbone's tokenizer; its tokens must reach every subject (default: nano's)",
        )
        verb.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
        verb.add_argument("folder", type=Path, help="data set in any layout")
        verb.add_argument("--split", choices=SPLITS, default="all", help="ids to read (default: all)")
        _add_labels(verb)
    check.add_argument(
        "--out", type=Path, metavar="FILE", help="list of all problems (default: FOLDER/check.jsonl)"
    )
    check.add_argument("--fix", type=Path, metavar="DST", help="write a clean copy there, in the same layout")
    stats.add_argument(
        "--look", type=positive, default=500, help="pictures to look at, for sizes and faces (default: 500)"
    )
    stats.add_argument("--no-faces", action="store_true", help="look for no faces, which takes longest")
    stats.add_argument("--json", action="store_true", help="print JSON")
    stats.add_argument("--page", type=Path, metavar="FILE", help="write a page with plots and samples")
    check.add_argument(
        "--reference-crop",
        choices=("person", "head"),
        default="person",
        help="as the backbone's reference_crop: head, which is nano's, needs a face of everybody "
        "(default: person)",
    )
    verbs.add_parser("doctor", help="will an SDM learn from this? verdicts and cures", add_help=False)
    _add_convert(verbs)
    verbs.add_parser("benchmark", help="samples a second that a training loads and learns from (--help)")
    return top


def _add_convert(verbs: Any) -> None:
    convert = verbs.add_parser(
        "convert",
        help="write a data set in another layout",
        epilog=f"benchmarks are made by: convert {' | '.join(data_benchmark.KINDS)} (--help)",
    )
    convert.add_argument("source", type=Path, metavar="SRC", help="data set in any layout")
    convert.add_argument(
        "folder", type=Path, metavar="DST", help="where to; what was interrupted goes on where it stopped"
    )
    convert.add_argument("--to", required=True, choices=LAYOUTS, help="plain: pictures and captions alone")
    convert.add_argument(
        "--shard", type=positive, default=1000, help="samples a shard, with --to webdataset (default: 1000)"
    )
    convert.add_argument(
        "--jpeg", action="store_true", help="pictures as JPEG, as FastComposer's own code wants them"
    )
    convert.add_argument("--skip-corrupt", action="store_true", help="leave out what cannot be used")
    convert.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    _add_labels(convert)


def _add_labels(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--labels",
        type=_labels,
        default=(LABEL,),
        help=f"coco_label of subjects, with commas between; all: every one (default: {LABEL})",
    )


def _side(text: str) -> int:
    """An argument's type: pixels a side of a rendered picture."""
    if not text.isdecimal() or int(text) not in range(LEAST_SIDE, MOST_SIDE + 1):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of pixels; allowed: {SIDES}")
    return int(text)


def _render(arguments: argparse.Namespace) -> int:
    from fdlab.data.rendered import render

    a = arguments
    render(a.folder, a.mix, a.num, a.seed, size=a.size, workers=a.workers)
    print(a.folder)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from fdlab.layouts.check import Asked, check, fix, list_path
    from fdlab.layouts.choose import open_folder
    from fdlab.layouts.convert import refuse_nested
    from fdlab.models.tokenizer import load_tokenizer

    a = arguments
    if a.fix is not None and a.split != "all":
        raise UserError(f"--fix writes all splits, and --split {a.split} reads one; give --split all.")
    crop = None
    if a.reference_crop == "head":
        from fdlab.measure.faces import HeadCrop

        crop = (HeadCrop,)
    tokenizer = (load_tokenizer, str(resolve(a.tokenizer)))
    asked = Asked(tokenizer, a.split, a.labels, crop)
    out, opened = a.out or list_path(a.folder), open_folder(a.folder.expanduser())
    if a.fix is not None:
        refuse_nested(a.folder.expanduser(), a.fix.expanduser())
    report = check(a.folder, asked, out, a.workers)
    for problem in report.problems[:SHOWN]:
        print(f"broken: {visible(problem.reason)}")
    if len(report.problems) > SHOWN:
        print(f"... and {len(report.problems) - SHOWN:,} more in {out}")
    if report.num_samples and not report.num_subjects and a.labels is not None and opened.has_masks:
        print(f"nobody: no segment has a label of {', '.join(a.labels)} (--labels all takes every one)")
    counts = f"{report.num_samples:,} samples with {report.num_subjects:,} subjects are sound"
    print(f"{counts}, {len(report.problems):,} problems in {out}")
    if report.num_unlisted:
        print(f"{report.num_unlisted:,} samples are there, but in no list, and were not read")
    if a.fix is not None:
        made = fix(a.folder, a.fix, asked, report, a.workers)
        print(f"{a.fix}: {made.pictures:,} pictures, without those problems")
    return 1 if report.problems else 0


def _convert(arguments: argparse.Namespace) -> int:
    from fdlab.layouts.choose import open_folder
    from fdlab.layouts.convert import Options, convert

    a = arguments
    options = Options(a.to, a.labels, a.jpeg, a.skip_corrupt, a.shard)
    made = convert(a.source, a.folder, options, a.workers)
    for reason in made.skipped.values():
        print(f"left out: {reason}")
    if made.subjects_lost:
        print(
            f"left out: {made.subjects_lost:,} subjects with their masks, for which this layout has no place"
        )
    shards = f" in {made.shards:,} shards" if made.shards else ""
    print(f"{a.folder}: {made.pictures:,} pictures{shards}, {len(made.skipped):,} left out")
    exp = "tdm" if a.to == "plain" or not open_folder(a.source.expanduser()).has_masks else "sdm"
    print(f"next: python -m fdlab train +exp={exp} data=folder data.root={a.folder}")
    return 0


def _benchmark(argv: list[str]) -> int:
    """Compose a training, and print how fast it loads and learns."""
    from fdlab.cli.options import configurable, print_config

    example = "python -m fdlab data benchmark +exp=sdm trainer=cpu data.cache_latents=false"
    top = configurable(
        "data benchmark", "Samples a second: the loader alone, augmenting, and training.", example
    )
    top.add_argument("--batches", type=positive, default=60, help="batches to load (default: 60)")
    arguments = top.parse_intermixed_args(argv)
    from fdlab.config.compose import compose

    cfg = compose(arguments.overrides)
    if arguments.cfg:
        print_config(cfg)
        return 0
    from fdlab.training.loading import measure

    for rate in measure(cfg, arguments.batches):
        print(rate, flush=True)
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    from fdlab.layouts import stats
    from fdlab.models.tokenizer import load_tokenizer

    a = arguments
    faces = None
    if not a.no_faces:
        from fdlab.measure.faces import FaceDetector

        faces = (FaceDetector,)
    tokenizer = (load_tokenizer, str(resolve(a.tokenizer)))
    found = stats.count(a.folder, stats.Asked(tokenizer, a.split, a.labels, a.look, faces), a.workers)
    numbers = stats.summary(found)
    print(json.dumps(numbers, indent=2) if a.json else stats.text(numbers))
    if a.page is not None:
        from fdlab.records import data_page

        data_page.write(a.page, found, stats.samples_of(found, SAMPLES))
        print(f"page: {a.page}", file=sys.stderr)
    return 0
