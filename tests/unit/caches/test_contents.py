"""What tells a data set from a changed one: all of its files, or pieces of the long ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fdlab.caches.contents import contents
from fdlab.data import pieces
from fdlab.data.pieces import PIECE, SHORT, glance
from fdlab.layouts.choose import LAYOUTS
from fdlab.layouts.convert import Options, convert

LONG = 4 * SHORT
FILES = {
    "fastcomposer": ("*/0000001.png", "*/0000001.json", "*/0000001.npy"),
    "plain": ("*/0000001.png", "metadata.jsonl"),
    "webdataset": ("train*.tar",),
}


@pytest.fixture(scope="module")
def folders(world: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data set in each layout."""
    root = tmp_path_factory.mktemp("data")
    world.write_folder(root / "fastcomposer", 3)
    for to in ("webdataset", "plain"):
        convert(root / "fastcomposer", root / to, Options(to), show=False)
    return root


@pytest.mark.parametrize("some", [True, False])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_copy_is_the_same_and_a_changed_file_is_not(
    kind: str, some: bool, folders: Path, tmp_path: Path
) -> None:
    def found(root: Path) -> list[bytes]:
        folder = LAYOUTS[kind](root)
        read = contents(folder, sorted(folder.ids()), tmp_path / "cache", show=False, pieces=some)
        assert some or read.sizes == [(32, 32)] * 3
        return [digest_16.tobytes() for digest_16 in read.digest_P16]

    first, copy = found(folders / kind), tmp_path / "copy"
    shutil.copytree(folders / kind, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    assert found(copy) == first
    for path in [path for pattern in FILES[kind] for path in copy.glob(pattern)]:
        data = path.read_bytes()
        # Of the same length; where a file is of several samples, of this one's caption.
        one = path.name.startswith("0000001")
        path.write_bytes(data[:-1] + b"~" if one else data.replace(b"and a man", b"and a cat"))
        assert [a == b for a, b in zip(found(copy), first, strict=True)] == [True, False, True], path
        path.write_bytes(data)


def test_what_the_system_refused_is_read_again(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that is given back changes neither size nor time of a file."""
    folder = LAYOUTS["fastcomposer"](folders / "fastcomposer")

    def found(cache: str) -> tuple[list[bytes], list[object], str]:
        read = contents(folder, sorted(folder.ids()), tmp_path / cache, show=False)
        return [digest_16.tobytes() for digest_16 in read.digest_P16], read.sizes, read.digest

    sound, real = found("sound"), Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "0000001.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        broken = found("cache")
        assert found("cache") == broken and broken[1] == [(32, 32), None, (32, 32)]
        assert [a == b for a, b in zip(broken[0], sound[0], strict=True)] == [True, False, True]
    assert found("cache") == sound


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_layout_gives_pieces_of_long_files(
    kind: str, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "SHORT", 16)
    monkeypatch.setattr(pieces, "PIECE", 4)
    folder = LAYOUTS[kind](folders / kind)
    whole, some = dict(folder.files("0000001")), dict(folder.files("0000001", pieces=True))
    assert whole.keys() == some.keys() and next(iter(some)) == "picture"
    for name in some.keys() - {"caption"}:
        data = whole[name]
        assert some[name].startswith(f"{len(data)}\n".encode() + data[:4]) and some[name].endswith(data[-4:])
        assert len(some[name]) < 32


def test_a_glance_reads_little_and_sees_another_length_end_or_middle(tmp_path: Path) -> None:
    zeros = np.zeros(LONG, np.uint8)

    def seen(array: np.ndarray, start: int = 0, size: int | None = None) -> bytes:
        array.tofile(tmp_path / "file")
        return glance(tmp_path / "file", start, size)

    first = seen(zeros)
    assert len(first) < 6 * PIECE < LONG and first == seen(zeros)
    changed = zeros.copy()
    changed[LONG // 2 + 9] = 1
    assert len({first, seen(changed), seen(changed[::-1]), seen(zeros[1:])}) == 4
    for place in (0, -1):
        changed = zeros.copy()
        changed[place] = 1
        assert seen(changed) != first
    # As it lies in a tar: what is before and behind it is others'.
    inside = np.pad(zeros, 512, constant_values=7)
    assert seen(inside, 512, LONG) == first != seen(inside, 511, LONG)
    short = np.arange(SHORT) % 7
    assert seen(short.astype(np.uint8)) == short.astype(np.uint8).tobytes()
    assert seen(zeros[:0]) == b""
