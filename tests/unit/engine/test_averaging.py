"""Averages in host memory: the same numbers, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fdlab.engine import averaging, checkpoints
from fdlab.engine.averaging import Averaging
from fdlab.engine.fetching import Fetching
from tests.worlds.line import Line, train


def made(far: bool) -> tuple[dict[str, nn.Parameter], Averaging]:
    """Parameters in two memory formats, and averages beside them or fetched."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    values = {"kernel": kernel, "bias": torch.randn(5, generator=generator)}
    parameters = {name: nn.Parameter(value) for name, value in values.items()}
    averages = Averaging(parameters, 0.9, "cpu" if far else "same")
    if far:
        averages.stay_on_host()
    return parameters, averages


def walk(parameters: dict[str, nn.Parameter], averages: Averaging, steps: int = 20) -> None:
    for step in range(steps):
        averages.let_weights_change()
        with torch.no_grad():
            for number, parameter in enumerate(parameters.values()):
                parameter.add_(torch.sin(parameter + step + number))
        averages.update(step)


def test_fetched_weights_give_the_same_averages_to_the_bit() -> None:
    (_, near), (_, far) = (made(False), made(True))
    for each in (near, far):
        walk(each.parameters, each)
    assert near.average.keys() == far.state().keys()
    for name, average in near.average.items():
        assert torch.equal(average, far.state()[name]), name
        assert far.average[name].stride() == far.parameters[name].stride()


def test_weights_may_change_while_they_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    (parameters, far), (others, near) = made(True), made(False)
    changed, plain = threading.Event(), Fetching._when_fetched

    def late(self: Fetching, work: Any) -> None:
        assert changed.wait(10)
        plain(self, work)

    monkeypatch.setattr(Fetching, "_when_fetched", late)
    far.update(0)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.fill_(7)
    changed.set()
    near.update(0)
    assert all(torch.equal(far.average[name], near.average[name]) for name in others)


def test_the_weights_come_back_whatever_happens() -> None:
    parameters, far = made(True)
    walk(parameters, far)
    before = {name: (p, p.data_ptr(), p.detach().clone()) for name, p in parameters.items()}
    with pytest.raises(ZeroDivisionError), far.swapped_in():
        for name, parameter in parameters.items():
            assert torch.equal(parameter, far.average[name])
        raise ZeroDivisionError
    for name, (parameter, place, value) in before.items():
        # In place: no second set of weights.
        assert parameters[name] is parameter and parameter.data_ptr() == place
        assert torch.equal(parameter, value)


def test_a_gpu_copies_in_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to CUDA, and in which order; no GPU is needed to hear it."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            said.append(f"{self.name} waits for {other.name}")

        def wait_event(self, event: Event) -> None:
            said.append(f"{self.name} waits for the event")

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking

        def record(self, stream: Stream) -> None:
            said.append(f"event of {stream.name}")

        def synchronize(self) -> None:
            said.append("thread waits")

    @contextmanager
    def inside(stream: Stream) -> Iterator[None]:
        said.append(f"in {stream.name}")
        yield
        said.append("out")

    main = Stream("main")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", inside)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    fetching = Fetching([torch.zeros(2)])
    monkeypatch.setattr(fetching, "_stream", Stream("side"))
    fetching.let_change()
    fetching.fetch([torch.ones(2)], lambda values: said.append(f"work on {values[0].tolist()}"))
    fetching.settle()
    fetching.let_change()
    assert said == [
        "side waits for main", "in side", "event of side", "out", "thread waits", "work on [1.0, 1.0]",
        "main waits for the event",
    ]  # fmt: skip


def test_what_fails_in_the_thread_is_raised() -> None:
    _, far = made(True)
    far._averages["bias"] = torch.zeros(3)
    far.update(0)
    with pytest.raises(RuntimeError):
        far.state()


def test_a_run_with_averages_on_the_host_is_the_same_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "near", Line())

    def line() -> Line:
        module = Line()
        module.averaging = Averaging(module.trainable_parameters(), 0.9, "cpu")
        # As on a GPU, to whose weights they would be far.
        monkeypatch.setattr(module.averaging, "to_parameters_device", module.averaging.stay_on_host)
        return module

    for steps in (4, 6):
        train(tmp_path / "far", line(), max_steps=steps)
    near, far = (checkpoints.read(tmp_path / name / "checkpoints/last.ckpt") for name in ("near", "far"))
    for part in ("parameters", "average"):
        assert near[part].keys() == far[part].keys()
        assert all(torch.equal(near[part][name], far[part][name]) for name in near[part])


def test_weights_on_the_host_are_near_already() -> None:
    _, near = made(False)
    near.place = "cpu"
    near.to_parameters_device()
    assert near._fetching is None
    assert averaging.Averaging({}, 0.0, "cpu").average == {}
