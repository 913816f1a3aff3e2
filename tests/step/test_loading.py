"""How fast a training loads: what is measured, and by what clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fdlab.training.loading import loading_rate, measure


class Slow:
    """Thirteen batches, by a clock of its own: each takes 10 ms, the first much longer."""

    now = 0.0

    def train_dataloader(self) -> Iterator[int]:
        for number in range(13):
            self.now += 0.01 if number else 0.3
            yield number


def test_a_rate_is_that_of_the_batches_behind_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Slow()
    monkeypatch.setattr("time.perf_counter", lambda: data.now)
    cores = iter([5.0, 5.0 + 13 * 4 * 0.002])
    monkeypatch.setattr("fdlab.training.loading._cpu_seconds", lambda: next(cores))
    assert loading_rate(data, 4) == pytest.approx((400, 0.002))  # type: ignore[arg-type]


def test_a_training_is_measured_at_loading_and_at_its_steps(configure: Callable[..., Any]) -> None:
    found = list(measure(configure("sdm", "data.cache_latents=false", "name=measured"), 3))
    assert [rate.name for rate in found] == ["loader", "loader with augmentation", "training step"]
    assert all(0 < rate.samples_per_second < 1e6 for rate in found)
    assert all(rate.cpu_seconds and 1e-6 < rate.cpu_seconds < 10 for rate in found[:2])
    assert "ms of a core each" in str(found[0]) and "core" not in str(found[2])
