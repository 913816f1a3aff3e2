"""Of processes that train together the first that fails speaks, and all end with its status."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from fdlab import __main__ as shell
from fdlab.engine import together
from fdlab.engine.together import ending
from fdlab.errors import EndedElsewhere, UserError


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


def test_the_first_ends_by_itself_where_another_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's observer would kill it, whose status is then that of a signal."""
    killed: list[int] = []
    failed: Any = SimpleNamespace(poll=lambda: None, returncode=2, pid=7)
    observer = _ChildProcessObserver(os.getpid(), [failed], sleep_period=0)
    monkeypatch.setattr(observer, "_terminate_all", lambda: killed.append(1))
    looks, run = threading.Event(), observer.run
    monkeypatch.setattr(observer, "run", lambda: (looks.wait(10), run()))
    observer.start()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError):
        fail(tmp_path, UserError("picture 7 is torn"))
    looks.set()
    observer.join(10)
    assert not observer.is_alive() and not killed
