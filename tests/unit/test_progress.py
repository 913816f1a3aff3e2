from __future__ import annotations

import io
import sys

import pytest

from fdlab import progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made.monotonic)
    return made


def test_a_short_loop_says_nothing_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(range(3), "drawing")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_long_loop_says_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.track(range(10), "drawing"):
        clock.now += 20
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "drawing: 2/10 (0.05/s, 2m40s left)" and len(lines) == 5


def test_what_was_done_before_is_not_in_the_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("drawing", total=100, done=90) as shown:
        clock.now += 100
        shown.advance(5)
    assert capsys.readouterr().err == "drawing: 95/100 (0.05/s, 1m40s left)\n"


def test_hidden_is_hidden(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.track(range(10), "drawing", show=False):
        clock.now += 100
    assert capsys.readouterr().err == ""


def test_a_generator_has_no_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.track((i for i in range(4)), "reading"):
        clock.now += 40
    assert capsys.readouterr().err.startswith("reading: 1 (0.025/s)\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert sum(progress.track(range(5), "drawing")) == 10
    assert "drawing" in screen.getvalue() and "5/5" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(-3, "0s"), (59.4, "59s"), (61, "1m01s"), (7260, "2h01m")])
def test_durations(seconds: float, text: str) -> None:
    assert progress.format_seconds(seconds) == text
