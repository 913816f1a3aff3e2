"""Arrays in parts: made by several at once, gone on with, checked, read as one."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdlab.caches import parts
from fdlab.caches.parts import Parts, finish, is_sound, make_parts, place
from fdlab.data.store import ArrayFolder

SIZES = (5, 3, 0, 4)
BOUNDS = [0, 5, 8, 8, 12]
NAMES = [["a"]] * len(SIZES)
WHOLE = np.arange(24, dtype=np.float32).reshape(12, 2)


def maker(folder: Path, made: list[int], pause: float = 0.0, fails_at: int = -1) -> Callable[[int], None]:
    def make(number: int) -> None:
        made.append(number)
        time.sleep(pause)
        out = ArrayFolder(place(folder, number), {"a": ((max(1, SIZES[number]), 2), np.float32)})
        out.arrays["a"][: SIZES[number]] = WHOLE[BOUNDS[number] : BOUNDS[number + 1]]
        if number == fails_at:
            raise KeyboardInterrupt
        finish(folder, number, out, {"size": SIZES[number]})

    return make


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_parts_read_as_one(tmp_path: Path) -> None:
    make_parts(tmp_path / "c", NAMES, maker(tmp_path / "c", []))
    array = Parts(tmp_path / "c", "a", BOUNDS)
    assert len(array) == 12 and all((array[index] == WHOLE[index]).all() for index in range(12))
    np.testing.assert_array_equal(array[[11, 0, 5, 7]], WHOLE[[11, 0, 5, 7]])
    assert array[[]].shape == (0, 2) and array[[]].dtype == np.float32
    for beyond in (12, -1):
        with pytest.raises(IndexError):
            array[beyond]


def test_of_several_at_once_each_part_is_made_by_one(tmp_path: Path) -> None:
    made: list[int] = []
    threads = [
        threading.Thread(target=make_parts, args=(tmp_path / "c", NAMES, maker(tmp_path / "c", made, 0.02)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 1, 2, 3]
    make_parts(tmp_path / "d", NAMES, maker(tmp_path / "d", []))
    assert content(tmp_path / "c") == content(tmp_path / "d")


def test_what_another_left_undone_is_made_when_it_stops(tmp_path: Path) -> None:
    """One holds the first part and dies in it; the other has made all else, waits, and makes that too."""
    folder, first, second = tmp_path / "c", [], []
    started = threading.Event()

    def dies(number: int) -> None:
        first.append(number)
        started.set()
        time.sleep(0.2)
        raise KeyError

    def run() -> None:
        with pytest.raises(KeyError):
            make_parts(folder, NAMES, dies)

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    make_parts(folder, NAMES, maker(folder, second))
    thread.join()
    assert first == [0] and second == [1, 2, 3, 0]


def test_an_interruption_costs_one_part(tmp_path: Path) -> None:
    folder, made = tmp_path / "c", []
    with pytest.raises(KeyboardInterrupt):
        make_parts(folder, NAMES, maker(folder, made, fails_at=1))
    make_parts(folder, NAMES, maker(folder, made))
    assert made == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("harm", ["byte", "size", "mark", "digest"])
def test_a_part_that_is_not_what_was_written_is_made_anew(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, made = tmp_path / "c", []
    make_parts(folder, NAMES, maker(folder, []))
    before = content(folder)
    path = place(folder, 1) / ("a.npy" if harm in ("byte", "size") else "part.json")
    whole = path.read_bytes()
    changed = {
        "byte": whole[:-1] + bytes([whole[-1] ^ 1]),
        "size": whole[:-1],
        "mark": b"[]",
        "digest": whole.replace(b'"a": "', b'"a": "f'),
    }
    path.write_bytes(changed[harm])
    os.utime(path, (1, 1))
    make_parts(folder, NAMES, maker(folder, made))
    assert made == [1] and content(folder) == before and "damaged" in capsys.readouterr().err


def test_files_are_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = tmp_path / "c", []
    make_parts(folder, NAMES, maker(folder, []))
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    digest = parts._digest
    monkeypatch.setattr(parts, "_digest", lambda array: read.append(1) or digest(array))
    assert all(is_sound(folder, number, ["a"]) for number in range(4)) and not read
    for _ in range(2):
        assert all(is_sound(tmp_path / "copy", number, ["a"]) for number in range(4)) and len(read) == 4
