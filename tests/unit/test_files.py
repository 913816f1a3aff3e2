"""Files are written whole, and what dead writers left goes, but nothing of the living."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fdlab import files
from fdlab.errors import UserError


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_cleared", set())


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                              capture_output=True, text=True, check=True).stdout)  # fmt: skip


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(KeyError), files.whole(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError
    with pytest.raises(KeyError), files.whole_folder(tmp_path / "f") as temporary:
        (temporary / "inside").write_text("half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_folder_takes_the_old_ones_place_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with files.whole_folder(tmp_path / "f") as temporary:
            (temporary / text).write_text(text)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["two"] and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("write", [
    lambda folder: files.write_text(folder / "new", "x"),
    lambda folder: files.whole_folder(folder / "new").__enter__(),
])  # fmt: skip
def test_the_next_writer_removes_what_dead_ones_left(
    tmp_path: Path, dead: int, write: Callable[[Path], None]
) -> None:
    (tmp_path / f".a.txt.{files._HOST}-{dead}.tmp").write_text("half")
    (tmp_path / f".model.{files._HOST}-{dead}.tmp" / "unet").mkdir(parents=True)
    (tmp_path / f".moved.{files._HOST}-{dead}.old").mkdir()
    (tmp_path / f".replaced.{files._HOST}-{dead}.old").mkdir()
    (tmp_path / "replaced").mkdir()
    # Numbers of processes come again, in containers at once.
    (tmp_path / f".c.{files._HOST}-{os.getpid()}.tmp").write_text("half")
    old = tmp_path / ".b.elsewhere-1.tmp"
    old.write_text("half")
    os.utime(old, (time.time() - 1e6,) * 2)
    write(tmp_path)
    ours = f".new.{files._HOST}-{os.getpid()}.tmp"
    left = sorted(p.name for p in tmp_path.iterdir() if p.name != ours)
    assert [name for name in left if name != "new"] == ["moved", "replaced"]


def test_what_the_living_write_and_what_is_nobodys_stays(tmp_path: Path) -> None:
    kept = [
        f".a.{files._HOST}-{os.getppid()}.tmp",
        f".b.elsewhere-{2**22 - 1}.tmp",
        ".lock",
        ".x.tmp",
        "y.tmp",
    ]
    for name in kept:
        (tmp_path / name).write_text("half")
    with files.whole(tmp_path / "mine") as temporary:
        temporary.write_text("half")
        files._cleared.clear()
        files.write_text(tmp_path / "other", "x")
        assert temporary.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "mine", "other"])


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def named(handle: int) -> None:
        seen.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name.split('.')[1:2]}")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", named)
    monkeypatch.setattr(Path, "replace", renamed)
    files.write_text(tmp_path / "a", "x")
    assert seen == ["flush ['a']", "rename", "flush []"]
    seen.clear()
    with files.whole_folder(tmp_path / "m") as temporary:
        (temporary / "weights").write_text("x")
    assert seen == ["flush []", "flush ['m']", "rename", "flush []"]


def test_folders_above_a_file_are_made_where_the_system_lets_it(tmp_path: Path) -> None:
    files.write_text(tmp_path / "some/where/a", "x")
    assert (tmp_path / "some/where/a").read_text() == "x"
    for write in (files.whole, files.whole_folder):
        said = pytest.raises(UserError, match=r"folder '/proc/none.*' cannot be made; choose another")
        with said, write(Path("/proc/none/here/a")):
            pass


def test_a_full_disk_is_known_behind_other_errors(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "anything")

    def raised(cause: bool) -> Exception:
        try:
            try:
                raise full
            except OSError as error:
                raise RuntimeError("a writer's own words") from (error if cause else None)
        except RuntimeError as error:
            return error

    for error in (full, raised(cause=True), raised(cause=False), RuntimeError(os.strerror(errno.EDQUOT))):
        with pytest.raises(UserError, match="no space left to write"), files.whole(tmp_path / "a"):
            raise error
    with pytest.raises(OSError, match="else"), files.whole(tmp_path / "a"):
        raise OSError(errno.EIO, "else")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_only_a_folder_that_cannot_be_flushed_is_passed_over(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def refuse(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_dir() is of_folder:
            raise OSError(number, "refused")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    for of_folder in (True, False):
        if of_folder and number == errno.EINVAL:
            files.write_text(tmp_path / "a", "x")
        else:
            with pytest.raises(OSError, match="refused"):
                files.write_text(tmp_path / "a", "x")


def test_json_is_written_for_people_and_without_what_is_no_json(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1], "a": "é"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "{" and text.endswith("\n}\n") and '  "b": [' in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_no_system_has_a_name_that_is_too_long(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 5000)
    assert not files.is_file(long) and not files.is_folder(long)
    (tmp_path / "a").touch()
    assert files.is_file(tmp_path / "a") and not files.is_folder(tmp_path / "a")
    assert files.is_folder(tmp_path) and not files.is_file(tmp_path)
    assert files.shortened(tmp_path / "a") == f"'{tmp_path / 'a'}'"
    shown = files.shortened(long)
    assert len(shown) < 150 and shown.startswith(f"'{str(tmp_path)[:40]}") and "...x" in shown


def test_what_has_been_written_is_no_longer_this_processs(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "x")
    with files.whole_folder(tmp_path / "f") as temporary:
        assert str(temporary.resolve()) in files._open
    assert not any(str(tmp_path.resolve()) in name for name in files._open)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left to write"),
        (errno.EFBIG, "is larger than a file may be here"),
        (errno.EPERM, "cannot be written, says the system"),
    ],
)
def test_what_writers_of_other_languages_make_of_a_refusal_is_one_line(
    tmp_path: Path, number: int, said: str
) -> None:
    """They have no number, but the system's words; a folder is not different from a file."""
    for writing in (files.whole, files.whole_folder):
        with pytest.raises(UserError, match=said), writing(tmp_path / "a"):
            raise RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})")
        # What is said already may be of a file that is read.
        with pytest.raises(UserError, match=r"^x cannot be read"), writing(tmp_path / "a"):
            raise UserError(f"x cannot be read: {os.strerror(number)}")
    assert not list(tmp_path.iterdir())
