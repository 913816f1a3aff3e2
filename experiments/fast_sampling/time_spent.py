"""Time that the presets take for the same pictures, in turn.

    python experiments/fast_sampling/time_spent.py [--pictures 8] [--turns 3] [--out FILE]

Seconds of a core (all threads together), which other processes on the machine hardly change.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from fdlab import FaceDiffuserPipeline
from fdlab.config.compose import compose
from fdlab.diffusion.settings import SamplerSettings
from fdlab.files import write_json
from fdlab.people import benchmark, picture
from fdlab.people.identity import identity
from fdlab.pipeline.artist import call_arguments

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
    pipeline = FaceDiffuserPipeline.shipped()
    pipeline.set_progress_bar_config(disable=True)
    given = embeddings(pipeline, asked.pictures)
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


def embeddings(pipeline: FaceDiffuserPipeline, num: int) -> dict[str, Any]:
    """Of people and prompts of the embedded benchmark."""
    prompts, people = [], []
    for k in range(num):
        noun = identity(benchmark.HELD_OUT + k % benchmark.SUBJECTS).noun
        prompts.append(benchmark.PROMPTS[k % len(benchmark.PROMPTS)].text.format(noun=noun))
        people.append([picture.render(benchmark.spec(k % benchmark.SUBJECTS, "reference")).image_HW3])
    null_NLD, text_NLD, augmented_NLD = pipeline.encode_prompt(prompts, people)
    return {
        "prompt_embeds": text_NLD,
        "negative_prompt_embeds": null_NLD,
        "subject_prompt_embeds": augmented_NLD,
    }


if __name__ == "__main__":
    main()
