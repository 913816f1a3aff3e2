"""`fdlab data doctor`: will an SDM learn from this?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fdlab.cli.options import choices, parser, positive, print_config

FILE = "doctor.json"
EXAMPLE = """python -m fdlab data doctor people
         python -m fdlab data doctor people backbone=sd15 data.reference=mixed --seconds 120"""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status: 1 where it will not learn, else 0."""
    return _run(_arguments().parse_intermixed_args(argv))


def _arguments() -> argparse.ArgumentParser:
    top = parser(
        "data doctor",
        "Will an SDM learn from this? Looks at faces, masks, nouns, captions and references as a training\n"
        "takes them, learns ten samples by heart, and says line by line what is fine, what is not, and\n"
        "the cure. Exit status 1 where it will not learn.",
        epilog=f"{choices()}\n\nexample: {EXAMPLE}",
    )
    top.add_argument("folder", type=Path, metavar="PATH", help="data set in any layout")
    top.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of the training, as `fdlab train` takes them"
    )
    top.add_argument("--cfg", choices=["job"], help="print the resolved configuration and exit")
    top.add_argument("--look", type=positive, default=500, help="pictures to look at (default: 500)")
    top.add_argument(
        "--seconds", type=positive, default=60, help="how long to learn ten samples (default: 60)"
    )
    top.add_argument("--no-train", action="store_true", help="look only, which needs no weights")
    top.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    top.add_argument("--json", action="store_true", help="print JSON")
    top.add_argument("--page", type=Path, metavar="FILE", help="write a page, with pictures that have faults")
    top.add_argument("--out", type=Path, metavar="FILE", help=f"that JSON as a file (default: PATH/{FILE})")
    return top


def _run(arguments: argparse.Namespace) -> int:
    from fdlab.config import unread
    from fdlab.config.compose import compose
    from fdlab.diagnosis import doctor, findings
    from fdlab.layouts.check import list_path
    from fdlab.training.settings import FitSettings

    a = arguments
    cfg = compose(doctor.overrides(str(a.folder), a.overrides))
    unread.refuse(a.overrides, cfg)
    if a.cfg:
        print_config(cfg)
        return 0
    settings, out = FitSettings.read(cfg), a.out or list_path(a.folder.expanduser(), FILE)
    made = doctor.diagnose(settings, out, a.look, 0 if a.no_train else a.seconds, a.workers)
    if a.json:
        print(json.dumps(doctor.summary(made, settings), indent=2))
    else:
        print(findings.text(made.findings))
        print(f"{findings.conclusion(made.findings)} All of it is in {out}")
    if a.page is not None:
        from fdlab.records import diagnosis_page

        diagnosis_page.write(a.page, made)
        print(f"page: {a.page}", file=sys.stderr)
    return 0 if made.learns else 1
