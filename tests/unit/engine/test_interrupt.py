"""Signals: one ends a training after its step, two end it at once; both keep a state and say so in a line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from fdlab.__main__ import main
from fdlab.engine import checkpoints
from fdlab.engine.numbered import NumberedPasses
from tests.worlds.line import Line, send, train

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers_come_back() -> Any:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_waits_for_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped after step 4"):
        train(tmp_path, Line(send(number, at=3)), checkpoint_every=100)
    assert checkpoints.read(tmp_path / "checkpoints/last.ckpt")["step"] == 4


@pytest.mark.parametrize("numbers", [(a, b) for a in SIGNALS for b in SIGNALS])
def test_a_second_one_stops_at_once_and_leaves_the_last_saved_state(
    tmp_path: Path, numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    def twice(module: Line, n: int, loss: torch.Tensor) -> torch.Tensor:
        if n == 5:
            for number in numbers:
                os.kill(os.getpid(), number)
            pytest.fail("went on")
        return loss

    with pytest.raises(KeyboardInterrupt, match="stopped at once; the last saved state is that of step 4"):
        train(tmp_path, Line(twice), max_steps=9)
    assert checkpoints.read(tmp_path / "checkpoints/last.ckpt")["step"] == 4
    train(tmp_path, Line(), max_steps=9)
    assert checkpoints.read(tmp_path / "checkpoints/last.ckpt")["step"] == 9


def test_a_second_one_while_the_state_is_written_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.torch.save

    def interrupted(state: dict[str, Any], stream: Any) -> None:
        if state["step"] == 4:
            stream.write(b"PK half")
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        save(state, stream)

    monkeypatch.setattr(checkpoints.torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt, match="state is that of step 2"):
        train(tmp_path, Line(), max_steps=9)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["last.ckpt", "step-2.ckpt"]


@pytest.mark.parametrize("number", SIGNALS)
def test_before_the_first_step_one_is_enough(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signalled(data: NumberedPasses) -> None:
        os.kill(os.getpid(), number)
        pytest.fail("went on")

    monkeypatch.setattr(NumberedPasses, "train_dataloader", signalled)
    with pytest.raises(KeyboardInterrupt, match="stopped at once; no state was saved yet"):
        train(tmp_path, Line())


def test_asked_in_the_last_step_nothing_more_is_begun(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped after step 6"):
        train(tmp_path, Line(send(signal.SIGINT, at=5)))
    assert train(tmp_path, Line()) == 0.0


@pytest.mark.parametrize("number", SIGNALS)
def test_any_command_ends_in_one_line(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def signalled(arguments: list[str]) -> int:
        os.kill(os.getpid(), number)
        pytest.fail("went on")

    monkeypatch.setattr("fdlab.cli.doctor.main", signalled)
    # A shell has what it starts in the background ignore Ctrl-C, these tests included.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["doctor"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("interrupted") and line.endswith("fdlab doctor")


def test_a_thread_may_train_too(tmp_path: Path) -> None:
    """Where no handlers can be set."""
    thread = threading.Thread(target=train, args=(tmp_path, Line()))
    thread.start()
    thread.join()
    assert checkpoints.read(tmp_path / "checkpoints/last.ckpt")["step"] == 6
