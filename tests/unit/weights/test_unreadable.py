"""Files that hold no readable weights: one line says what each is, by the path that was given."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from fdlab.errors import UserError
from fdlab.exchange.single_file import look_into
from fdlab.weights.files import read_pickled, read_weights
from fdlab.weights.unreadable import not_there


def zipped() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.ones(1000)}, stream)
    return stream.getvalue()


SAFE = save({"a": torch.ones(1000)})
SPANNED = b"PK\x03\x04" + bytes(40) + b"PK\x06\x07" + bytes(12) + b"\2\0\0\0" + b"PK\x05\x06" + bytes(18)
"""An archive that says that it goes on on another disk, at which zipfile raises."""
TEXT = r"is text, not weights: it begins 'hello there'; download it again\.$"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
SAID: list[tuple[str, bytes, str]] = [
    *(
        (f"x{end}", begin, said)
        for end in (".safetensors", ".ckpt")
        for begin, said in (
            (b"", r"is empty; copy or download it again\.$"),
            (b"hello\nthere\n", TEXT),
            (b"<!DOCTYPE html>\n<html>" + b"x" * 600, "is a web page, not the weights: it begins '<!DOCTYPE"),
            (POINTER, "is a git-lfs pointer"),
        )
    ),
    (
        "x.safetensors",
        SAFE[:-1],
        rf"is cut short: {len(SAFE) - 1:,} of its {len(SAFE):,} bytes are here; copy",
    ),
    ("x.safetensors", SAFE[:20], r"is cut short: 20 of its \d+ bytes"),
    ("x.safetensors", b"\xff" * 64, r"is corrupt or cut short \(.*header.*\); copy it again\.$"),
    ("x.safetensors", b"\x03\0\0\0\0\0\0\0[1]", "is corrupt or cut short"),
    ("x.safetensors", zipped(), r"is no safetensors but torch's own format; name it \.ckpt\.$"),
    ("x.ckpt", zipped()[:2000], r"is cut short: its end is missing; copy it again\.$"),
    ("x.ckpt", SPANNED, r"is corrupt or cut short.*; copy it again\.$"),
    ("x.ckpt", b"\x80\x02", r"is corrupt.*\.$"),
    ("x.ckpt", SAFE, "is corrupt"),
]


@pytest.mark.parametrize(("name", "content", "said"), SAID)
def test_what_a_file_is_instead(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    other: Callable[[Path], Any] = read_weights if name.endswith(".safetensors") else read_pickled
    for read in (look_into, other):
        with pytest.raises(UserError, match=rf"^'{file}' {said}") as told:
            read(file)
        assert "\n" not in str(told.value) and "miniz" not in str(told.value)


def test_what_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    (tmp_path / ".modell.ckpt").touch()
    said = str(not_there(tmp_path / "modell.ckpt", "a file"))
    assert (
        said == f"'{tmp_path}/modell.ckpt' does not exist; give a file. Did you mean '{tmp_path}/model.ckpt'?"
    )
    assert str(not_there(tmp_path / "no/x")) == f"'{tmp_path}/no/x' does not exist."
    for read in (look_into, read_pickled):
        with pytest.raises(UserError, match=r"modell.* does not exist"):
            read(tmp_path / "modell.ckpt")
