"""Who holds a run directory, and that what is made once is made once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fdlab import lock
from fdlab.errors import UserError
from tests.worlds.holder import held


def test_a_run_directory_in_use_says_by_whom_and_is_free_once_that_is_killed(tmp_path: Path) -> None:
    with held(tmp_path / "run") as pid:
        with pytest.raises(UserError, match=rf"in use by process {pid} on \S+ since 20\S+ \(-c running"):
            lock.running(tmp_path / "run").__enter__()
        assert str(pid) in lock.holder(tmp_path / "run")
        os.kill(pid, signal.SIGKILL)
        with lock.running(tmp_path / "run"):
            pass
    assert lock.holder(tmp_path / "run") == lock.holder(tmp_path / "none") == ""


def test_shares_work_together_and_keep_others_out(tmp_path: Path) -> None:
    with held(tmp_path, "running shared"):
        with lock.running(tmp_path, shared=True):
            pass
        with pytest.raises(UserError, match="in use by"):
            lock.running(tmp_path).__enter__()
    with held(tmp_path), pytest.raises(UserError, match="in use by"):
        lock.running(tmp_path, shared=True).__enter__()


def test_one_process_may_take_it_twice_and_its_forks_do_not_keep_it(tmp_path: Path) -> None:
    with lock.running(tmp_path):
        with lock.running(tmp_path):
            pass
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        (tmp_path / lock.NAME).read_text()
    try:
        with held(tmp_path):
            assert lock.holder(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_several_want_made_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    """Each of four processes counts up a number that it has read a while before; none is lost."""
    script = "import sys, time, pathlib; from fdlab import lock; folder = pathlib.Path(sys.argv[1])\n"
    script += "while not (folder / 'go').exists(): time.sleep(0.01)\n"
    script += "for _ in range(5):\n with lock.exclusive(folder / 'x.lock'):\n"
    script += "  n = int((folder / 'n').read_text()); time.sleep(0.02); (folder / 'n').write_text(str(n + 1))"
    (tmp_path / "n").write_text("0")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    workers = [subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL) for _ in range(4)]
    (tmp_path / "go").touch()
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    assert (tmp_path / "n").read_text() == "20"


def test_who_waits_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(tmp_path / "x.lock", "exclusive") as pid:
        child = os.fork()
        if child == 0:
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            os._exit(0)
        with lock.exclusive(tmp_path / "x.lock"):
            pass
        os.waitpid(child, 0)
    assert "waiting for another process" in capsys.readouterr().err


def test_a_passing_lock_goes_with_what_failed_and_whoever_waited_holds_a_new_one(tmp_path: Path) -> None:
    path, held_by_second = tmp_path / "x", list[bool]()

    def second() -> None:
        with lock.exclusive(path, is_brief=True, is_passing=True), lock.attempt(path) as is_free:
            held_by_second.append(not is_free)

    thread = threading.Thread(target=second)
    with pytest.raises(KeyError), lock.exclusive(path, is_passing=True):
        thread.start()
        time.sleep(0.1)
        raise KeyError
    thread.join()
    assert held_by_second == [True] and path.is_file()
    with pytest.raises(KeyError), lock.exclusive(path, is_passing=True):
        raise KeyError
    assert not path.exists()


def test_without_locks_on_the_file_system_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with lock.running(tmp_path), lock.exclusive(tmp_path / "x"):
        pass
    assert "no locks on this file system" in capsys.readouterr().err
