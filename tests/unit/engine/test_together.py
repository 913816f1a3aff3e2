"""Of processes that train together the first that fails speaks, and all end with its status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from fdlab import __main__ as shell
from fdlab.engine import together
from fdlab.engine.together import ending
from fdlab.errors import EndedElsewhere, Failure, UserError


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "POLL", 0.01)
    monkeypatch.setattr(together, "GRACE", 0.02)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a process that waits in vain ends by, in place of its end."""
    monkeypatch.setattr(os, "_exit", (found := []).append)
    return found


def fail(folder: Path, error: BaseException) -> None:
    with ending(folder):
        raise error


def wait(folder: Path, ends: list[Any]) -> None:
    """Wait for others, wherever nothing reaches a process."""
    with ending(folder, ends.append):
        (watch,) = [thread for thread in threading.enumerate() if thread.name == "watch"]
        watch.join(10)


def test_what_breaks_as_another_process_ends_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Alone, every failure is one's own.
    with pytest.raises(RuntimeError, match="mine"):
        fail(tmp_path, RuntimeError("mine"))
    assert not list(tmp_path.iterdir())

    # Before they have met, too.
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torn"):
        fail(tmp_path, UserError("picture 7 is torn"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    for error in (RuntimeError("connection closed by peer"), KeyboardInterrupt()):
        with pytest.raises(EndedElsewhere) as ended:
            fail(tmp_path, error)
    monkeypatch.setattr(shell, "_run", lambda _: (_ for _ in ()).throw(ended.value))
    assert shell.main(["train"]) == 2
    assert capsys.readouterr().err == ""

    # A new go begins without the note, and a crash ends with status 1.
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(RuntimeError, match="crash"):
        fail(tmp_path, RuntimeError("crash"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(EndedElsewhere) as ended:
        fail(tmp_path, RuntimeError("connection closed by peer"))
    assert ended.value.status == 1


@pytest.mark.parametrize("status", [1, 2])
def test_a_process_that_waits_in_vain_ends_with_the_status_of_the_one_that_failed(
    status: int, tmp_path: Path, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    (tmp_path / together.ENDED).write_text(str(status))
    wait(tmp_path, ends)
    # The second is its end.
    assert ends == [status, status]


def test_a_process_whose_first_is_gone_ends(
    tmp_path: Path, ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("FDLAB_FIRST_PROCESS", str(os.getpid()))
    wait(tmp_path, ends)
    assert ends == [1, 1]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., _ChildProcessObserver]]:
    """Start processes beside this one, as Lightning does, whose observer would kill it with them."""
    started: list[subprocess.Popen[bytes]] = []
    killed: list[int] = []

    def start(*codes: str) -> _ChildProcessObserver:
        own = [subprocess.Popen([sys.executable, "-S", "-c", code]) for code in codes]
        started.extend(own)
        for process, code in zip(own, codes, strict=True):
            if code != HANGS:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setenv("WORLD_SIZE", str(1 + len(own)))
        observer = _ChildProcessObserver(os.getpid(), list(own), sleep_period=1)
        monkeypatch.setattr(observer, "_terminate_all", lambda: killed.append(1))
        observer.start()
        return observer

    yield start
    for process in started:
        process.kill()
        process.wait()
    assert not killed


KILLED = "import os; os.kill(os.getpid(), 9)"
HANGS = "import time; time.sleep(60)"


def test_the_first_ends_by_itself_where_another_fails(
    tmp_path: Path, starts: Callable[..., _ChildProcessObserver]
) -> None:
    """Lightning's observer would kill it, whose status is then that of a signal."""
    with pytest.raises(UserError), ending(tmp_path):
        observer = starts(HANGS, HANGS)
        raise UserError("picture 7 is torn")
    observer.join(10)
    assert not observer.is_alive() and not list(tmp_path.iterdir())


def test_one_that_is_killed_is_named_by_the_first(
    tmp_path: Path, starts: Callable[..., _ChildProcessObserver], ends: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Whether the first waits for it, or sees a connection break before."""
    said = r"process 2 beside the first was killed \(SIGKILL\), as the system does where memory runs out; "
    with pytest.raises(Failure, match=said), ending(tmp_path):
        starts(HANGS, KILLED)
        raise RuntimeError("connection reset by peer")
    starts(HANGS, KILLED)
    wait(tmp_path, ends)
    assert ends == [1, 1] and re.match(f"error: {said}", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_the_first_ends_with_the_status_of_one_that_failed_before_it_could_tell(
    tmp_path: Path, starts: Callable[..., _ChildProcessObserver], ends: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    starts("raise SystemExit(2)")
    wait(tmp_path, ends)
    assert ends == [2, 2] and not capsys.readouterr().err


def test_an_interruption_is_said_once(
    tmp_path: Path, starts: Callable[..., _ChildProcessObserver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the first, whatever the others end by; one that waits for it ends with it."""
    with pytest.raises(KeyboardInterrupt), ending(tmp_path):
        observer = starts("raise SystemExit(130)", HANGS)
        raise KeyboardInterrupt
    observer.join(10)
    assert not observer.is_alive() and not list(tmp_path.iterdir())
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(EndedElsewhere) as ended:
        fail(tmp_path, KeyboardInterrupt())
    assert ended.value.status == 130


def test_children_that_are_done_are_no_failure(
    tmp_path: Path, starts: Callable[..., _ChildProcessObserver], ends: list[Any]
) -> None:
    with ending(tmp_path, ends.append):
        starts("", "raise SystemExit(130)")
        time.sleep(0.1)
    assert not ends
