"""Caches: complete ones are only read, damaged ones are made anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fdlab.data import store
from fdlab.data.store import ArrayFolder, is_whole, make_once

LAYOUT: store.Layout = {"a": ((3, 2), np.float32), "b": ((4,), np.int16)}


def fill(folder: Path) -> None:
    out = ArrayFolder(folder, LAYOUT)
    for n in range(int(out.state.get("done", 0)), 3):
        out.arrays["a"][n] = n
        out.commit(done=n + 1)
    out.finish("rows.json", {"done": True})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\xff{[" + path.read_bytes())


HARM: list[Callable[[Path], None]] = [truncate, empty, garble, Path.unlink]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", ["a.npy", "b.npy", "rows.json"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, harm: Callable[[Path], None], name: str) -> None:
    made: list[Path] = []

    def make() -> None:
        made.append(tmp_path)
        fill(tmp_path / "c")

    def once() -> None:
        make_once(tmp_path / "c", lambda: is_whole(tmp_path / "c", "rows.json", LAYOUT), make)

    once()
    once()
    assert len(made) == 1
    before = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    # A closing brace and the end of the line: without the latter it is still JSON.
    for _ in range(2):
        harm(tmp_path / "c" / name) if (tmp_path / "c" / name).exists() else None
    once()
    assert len(made) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()} == before


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", ["a.npy", "progress.json"])
def test_a_damaged_half_of_a_cache_is_begun_anew(
    tmp_path: Path, harm: Callable[[Path], None], name: str
) -> None:
    half = ArrayFolder(tmp_path / "c", LAYOUT)
    half.commit(done=2)
    assert ArrayFolder(tmp_path / "c", LAYOUT).state == {"done": 2}
    for _ in range(2):
        harm(half.partial / name) if (half.partial / name).exists() else None
    assert ArrayFolder(tmp_path / "c", LAYOUT).state == {}
    other: store.Layout = {**LAYOUT, "a": ((3, 3), np.float32)}
    half = ArrayFolder(tmp_path / "c", LAYOUT)
    half.commit(done=1)
    assert ArrayFolder(tmp_path / "c", other).state == {}


def test_a_complete_cache_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "c")

    def refused(*arguments: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(store, "exclusive", refused)
    make_once(tmp_path / "c", lambda: is_whole(tmp_path / "c", "rows.json", LAYOUT), pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
