"""How an evaluation departs from the profile that its benchmark is scored by, told before drawing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fdlab.benchmarks import profiles
from fdlab.benchmarks.benchmark import Benchmark
from fdlab.measure.networks import Extractors

VIT_L14 = ("vit_l14", "clip-vit-large-patch14")


def settle(
    benchmark: Benchmark, extractors: Extractors, clip: str, sampler: Mapping[str, Any]
) -> tuple[Benchmark, Extractors]:
    """The benchmark with what departs from its profile, and the extractors that the profile asks for.

    `clip` is what was asked for (`evaluation.clip`), `sampler` what draws (empty: pictures of another
    program). Every departure costs a line on stderr; none stops the evaluation.
    """
    profile = profiles.profile_of(benchmark.profile)
    if profile.metrics is None:
        return benchmark, extractors
    departures = tuple(_measuring(profile, extractors, clip))
    for line in (*departures, *_drawing(sampler, profile)):
        print(f"note: not as published (benchmark.profile={profile.name}): {line}.", file=sys.stderr)
    return replace(benchmark, departures=departures), replace(extractors, features=None, judge=None)


def _measuring(profile: profiles.Profile, extractors: Extractors, asked: str) -> Iterator[str]:
    faces, clip = extractors.faces, extractors.clip
    if faces is None or faces.name != profile.faces:
        by = "nothing" if faces is None else faces.name
        yield f"faces are measured by {by}, published numbers by {profile.faces} (evaluation=published)"
    if clip is None or not (asked == VIT_L14[0] or clip.name.endswith(VIT_L14[1])):
        by = "nothing" if clip is None else clip.name
        yield f"prompts are measured by {by}, published numbers by {VIT_L14[1]} (evaluation=published)"


def _drawing(sampler: Mapping[str, Any], profile: profiles.Profile) -> Iterator[str]:
    for key, published in profile.sampler.items():
        # A sampler without the key is another method, not the published one with another setting.
        if key in sampler and sampler[key] != published:
            yield f"sampler.{key}={sampler[key]:g}, published numbers have {published:g}"
