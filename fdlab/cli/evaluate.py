"""`fdlab evaluate`: draw a benchmark with models that exist already, and score them."""

from __future__ import annotations

from fdlab.cli.options import configurable, print_config

EXAMPLE = "python -m fdlab evaluate benchmark=people_single sampler=snf_demo tdm=shipped sdm=runs/sdm/seed0"

WHOLE = (
    "experiment=evaluate",
    "benchmark.max_subjects=0",
    "benchmark.max_prompts=0",
    "benchmark.max_images=0",
)
"""Unlike the evaluation after a quick training run, this one is of the whole benchmark unless told
otherwise."""


def main(argv: list[str]) -> int:
    """Run the verb; returns the exit status."""
    parser = configurable(
        "evaluate", "Score models on a benchmark: pictures, record, figures and report.", EXAMPLE
    )
    arguments = parser.parse_intermixed_args(argv)
    from fdlab.config import directory
    from fdlab.config.compose import compose

    overrides = [*WHOLE, *arguments.overrides]
    cfg = compose(overrides)
    if arguments.cfg:
        print_config(cfg)
        return 0
    folder = directory.settle(cfg)
    directory.save(cfg, overrides)
    from fdlab.evaluation.run import evaluate

    evaluate(cfg, folder)
    for what, name in (
        ("record", "evaluation/record.json"),
        ("images", "evaluation/images"),
        ("report", "report.html"),
    ):
        print(f"{what:<8}{folder / name}")
    return 0
