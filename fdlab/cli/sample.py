"""`fdlab sample`: draw given people in a new scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fdlab.cli.options import configurable, print_config

if TYPE_CHECKING:
    from fdlab.sampling.drawing import Plan, SampleFiles

EXAMPLE = """python -m fdlab sample 'prompt=a woman <|image|> reading a book' 'subjects=[a.jpg]'
         python -m fdlab sample 'prompt=a man in a snowy forest' sampler=tdm num_images=4
         python -m fdlab sample prompts=prompts.csv trace=true"""
LISTED = 12
"""Paths that are printed one by one; of more, only their folder."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable("sample", "Draw given people in a new scene.", EXAMPLE)
    parser.add_argument("--dry", action="store_true", help="check, say what would be drawn, exit")
    arguments = parser.parse_intermixed_args(argv)
    from fdlab.config.compose import compose

    cfg = compose(arguments.overrides, config_name="sample")
    if arguments.cfg:
        print_config(cfg)
        return 0
    from fdlab.sampling.drawing import Plan, draw
    from fdlab.sampling.settings import SampleSettings

    if arguments.dry:
        _show(Plan.make(SampleSettings.read(cfg)))
    else:
        _print_paths(draw(cfg))
    return 0


def _show(plan: Plan) -> None:
    """Say what would be drawn."""
    asked, missing = plan.asked, plan.missing
    there = len(plan.distinct) - len(missing)
    by = ", ".join(f"{kind.upper()} {model.name}" for kind, model in plan.found.items())
    print(f"{'folder':<10}{asked.out}")
    print(f"{'by':<10}{by}; {asked.sampler.guider}, {asked.sampler.num_steps} steps")
    print(f"{'pictures':<10}{len(missing)} to draw" + (f", {there} are there" if there else ""))
    for picture in plan.pictures[:LISTED]:
        photos = ", ".join(cut.label for cut in picture.cuts)
        print(f"{'':<10}{picture.request.prompt}" + (f" ({photos})" if photos else "") + f", {picture.label}")
    if len(plan.pictures) > LISTED:
        print(f"{'':<10}and {len(plan.pictures) - LISTED} more")


def _print_paths(drawn: SampleFiles) -> None:
    """Say where everything is."""
    kept = len(set(drawn.pictures)) - drawn.num_new
    if kept:
        print(f"{drawn.num_new} drawn now, {kept} were there")
    paths = {"images": drawn.pictures, "traces": drawn.traces}
    for what, some in {**paths, "grid": [drawn.grid], "settings": [drawn.manifest]}.items():
        lines = [str(path) for path in some]
        if len(some) > LISTED:
            lines = [f"{Path(lines[0]).parent} ({len(some)} files)"]
        for number, line in enumerate(lines):
            print(f"{what if number == 0 else '':<10}{line}")
