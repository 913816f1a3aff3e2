"""Time that the presets take for the same pictures, in turn.

    python experiments/fast_sampling/time_spent.py [--pictures 8] [--turns 3] [--out FILE]

Seconds of a core (all threads together), which other processes on the machine hardly change.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from fdlab.config.compose import compose
from fdlab.diffusion.settings import SamplerSettings
from fdlab.files import write_json
from fdlab.pipeline.artist import call_arguments

# The people and prompts are those of the drawing's benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sampling_speed"))

from workloads import build

PRESETS = {
    "ddim50": ["sampler=snf_prompt"],
    "dpmpp20": ["sampler=snf_fast"],
    "unipc20": ["sampler=snf_fast", "sampler.scheduler=unipc"],
    "ddim20": ["sampler=snf_prompt", "sampler.num_steps=20"],
}


def main() -> None:
    """Draw, time, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=8, help="drawn at once")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "seconds.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    work = build("nano", asked.pictures)
    pipeline = work.pipeline
    given = {
        "prompt_embeds": work.text_NLD,
        "negative_prompt_embeds": work.null_NLD,
        "subject_prompt_embeds": work.augmented_NLD,
    }
    own = pipeline.scheduler.config
    seconds: dict[str, list[float]] = {name: [] for name in PRESETS}
    calls = {}
    for _ in range(asked.turns):
        for name, words in PRESETS.items():
            settings = SamplerSettings.from_mapping(compose([*words, "backbone=nano"]).sampler)
            pipeline.scheduler = settings.make_scheduler(dict(own))
            start = time.process_time()
            pipeline(seeds=range(asked.pictures), output_type="pt", **given, **call_arguments(settings))
            seconds[name].append(time.process_time() - start)
            calls[name] = pipeline.num_timesteps
    usual = statistics.median(seconds["ddim50"])
    rows = {
        name: {
            "calls": calls[name],
            "seconds": values,
            "times_as_fast": usual / statistics.median(values),
        }
        for name, values in seconds.items()
    }
    write_json(asked.out, {"pictures": asked.pictures, "threads": 1, "presets": rows})
    for name, row in rows.items():
        print(f"{name:<8} {row['calls']} calls, {row['times_as_fast']:.2f} times as fast as ddim50")


if __name__ == "__main__":
    main()
