"""What a benchmark's people are like, where that is known: of rendered people it is."""

from __future__ import annotations

from fdlab.benchmarks.benchmark import Benchmark
from fdlab.people.identity import HELD_OUT, groups


def attributes(benchmark: Benchmark) -> dict[str, dict[str, str]]:
    """Subject -> attribute -> group, such as s00 -> age -> old; only rendered people are in it."""
    # Numbers from HELD_OUT on are rendered people's; what a user's own mean is not known.
    numbers = {subject.id: subject.identity for subject in benchmark.subjects}
    return {name: groups(number) for name, number in numbers.items() if number and number >= HELD_OUT}
