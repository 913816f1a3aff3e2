"""Damage among photos: each kind costs its own photo alone, which is named with the reason."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.preparation import find, run
from fdlab.records import preparation_page
from tests.unit.preparation.test_run import SMALL, prepared
from tests.worlds import album

Plant = Callable[[Path], object]


def coded(kind: str, ground: int = 50, **options: object) -> bytes:
    """A sound photo of somebody, in a format."""
    stream = io.BytesIO()
    Image.fromarray(album.picture(ground, [0])).save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A PNG in colour, whatever its head promises."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def holds(data: bytes) -> Plant:
    return lambda path: path.write_bytes(data)


def changed(data: bytes, place: int, to: bytes) -> bytes:
    return data[:place] + to + data[place + len(to) :]


PNG, JPEG = coded("PNG"), coded("JPEG", quality=90)
DAMAGED: dict[str, tuple[str, Plant, str]] = {
    "nothing in it": ("1.jpg", holds(b""), "no picture of a known format"),
    "a page of the web": ("2.jpg", holds(b"<html>404 not found</html>"), "no picture of a known format"),
    "a film": ("3.jpg", holds(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(400)), "cannot be read"),
    "zeros": ("4.png", holds(bytes(5000)), "no picture of a known format"),
    "a head alone": ("5.png", holds(PNG[:33]), "cannot be read"),
    "half a PNG": ("6.png", holds(PNG[: len(PNG) // 2]), "cannot be read"),
    "half a JPEG": ("7.jpg", holds(JPEG[: len(JPEG) // 2]), "cannot be read"),
    "half a JPEG 2000": ("8.jp2", holds(coded("JPEG2000")[:300]), "cannot be read"),
    "half a WebP": ("9.webp", holds(coded("WEBP")[:100]), "cannot be read"),
    "half a TIFF": ("10.tif", holds(coded("TIFF")[:900]), "cannot be read"),
    "half a GIF": ("11.gif", holds(coded("GIF")[:40]), "cannot be read"),
    "half an AVIF": ("12.avif", holds(coded("AVIF")[:200]), "cannot be read"),
    "half a bitmap": ("13.bmp", holds(coded("BMP")[:900]), "cannot be read"),
    "a bit of a PNG flipped": (
        "14.png",
        holds(changed(PNG, len(PNG) // 2, b"\x55\xaa\x55")),
        "cannot be read",
    ),
    "a wrong check sum": ("15.png", holds(changed(PNG, 29, b"\0\0\0\0")), "cannot be read"),
    "a bomb": ("16.png", holds(png(60_000, 60_000, 8, bytes(4000))), "at most 64 million pixels"),
    "a bomb for the counter": (
        "17.png",
        holds(png(2**31 - 1, 2**31 - 1, 8, b"")),
        "at most 64 million pixels",
    ),
    "no width": ("18.png", holds(png(0, 20, 8, b"")), "cannot be read"),
    "a program": ("19.jpg", holds(coded("EPS")), "is EPS; allowed"),
    "an icon": ("20.png", holds(coded("ICO")), "is ICO; allowed"),
    "a text with a picture's name": ("21.heic", lambda path: path.write_text("no"), "cannot be read"),
    "a link to nowhere": ("22.jpg", lambda path: path.symlink_to("nowhere.jpg"), "is missing"),
    "a link to itself": ("23.jpg", lambda path: path.symlink_to(path.name), "is missing"),
    "a pipe that never ends": ("24.jpg", os.mkfifo, "is missing"),
    "a device": ("25.jpg", lambda path: path.symlink_to("/dev/zero"), "is missing"),
    "too small": ("26.png", lambda path: Image.new("RGB", (47, 500)).save(path), "too small: 47 x 500"),
    "a line": ("27.png", lambda path: Image.new("RGB", (5000, 1)).save(path), "too small: 5000 x 1"),
    "nobody in it": ("28.png", lambda path: Image.fromarray(album.picture(60, [])).save(path), "no face"),
    "black": ("29.png", lambda path: Image.new("RGB", (96, 96)).save(path), "no face"),
    "a copy": (
        "30.png",
        lambda path: path.write_bytes((path.parent / "a.png").read_bytes()),
        "copy of a.png",
    ),
    "a hard link": ("31.png", lambda path: os.link(path.parent / "b.png", path), "a copy of b.png"),
    "a link to a photo": ("32.png", lambda path: path.symlink_to("c.png"), "a copy of c.png"),
}
"""File -> what its photo is dropped for."""


def contents(folder: Path) -> dict[str, str]:
    """All that a data set holds but the report of how it was made, by digest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "preparation.json")
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def test_damage_costs_its_own_photo_alone_and_is_named(photos: Path, tmp_path: Path) -> None:
    before = prepared(photos, tmp_path / "sound")
    for name, plant, _ in DAMAGED.values():
        plant(photos / name)
    made = prepared(photos, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(tmp_path / "sound")
    found = {name: why for name, why in made.plan.dropped.items() if name not in before.plan.dropped}
    for kind, (name, _, reason) in DAMAGED.items():
        assert reason in found.pop(name, "it was used"), kind
    assert not found
    assert made.numbers["photos"] == before.numbers["photos"] + len(DAMAGED)
    listed = json.loads((tmp_path / "set.work/report.json").read_text())["dropped_photos"]
    assert {each["photo"]: each["reason"] for each in listed} == dict(made.plan.dropped)


def saved(kind: str, **options: object) -> Callable[[Path, np.ndarray], object]:
    return lambda path, image_HW3: Image.fromarray(image_HW3).save(path, kind, **options)


def written(change: Callable[[Image.Image], Image.Image], kind: str) -> Callable[[Path, np.ndarray], object]:
    return lambda path, image_HW3: change(Image.fromarray(image_HW3)).save(path, kind)


def moving(path: Path, image_HW3: np.ndarray) -> None:
    """Its first picture counts."""
    others = [Image.new("RGB", image_HW3.shape[1::-1], colour) for colour in ("red", "blue")]
    Image.fromarray(image_HW3).save(path, save_all=True, append_images=others)


def talkative(path: Path, image_HW3: np.ndarray) -> None:
    """As much EXIF as a JPEG holds."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 65_000
    Image.fromarray(image_HW3).save(path, "JPEG", quality=95, exif=exif)


def confused(path: Path, image_HW3: np.ndarray) -> None:
    """EXIF and a profile that are noise."""
    noise = np.random.default_rng(0).bytes(300)
    Image.fromarray(image_HW3).save(path, "JPEG", quality=95, exif=b"Exif\0\0" + noise, icc_profile=noise)


def deep(path: Path, image_HW3: np.ndarray) -> None:
    """Sixteen bits a channel."""
    height, width, _ = image_HW3.shape
    rows = image_HW3.astype(">u2").reshape(height, -1) * 257
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    path.write_bytes(png(width, height, 16, data))


def chatty(path: Path, image_HW3: np.ndarray) -> None:
    """Something behind its end."""
    Image.fromarray(image_HW3).save(path, "PNG")
    path.write_bytes(path.read_bytes() + b"PK\3\4 and more" * 100)


NOT_TEXT = os.fsdecode(b"caf\xe9.png")
ODD: dict[str, Callable[[Path, np.ndarray], object]] = {
    "jpeg.png": saved("JPEG", quality=95),
    "png.jpg": saved("PNG"),
    "SHOUTED.JPG": saved("JPEG", quality=95),
    "print.jpg": written(lambda image: image.convert("CMYK"), "JPEG"),
    "printed.tif": written(lambda image: image.convert("CMYK"), "TIFF"),
    "see through.png": written(lambda image: image.convert("RGBA"), "PNG"),
    "few colours.png": written(lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "packed.tif": saved("TIFF", compression="tiff_lzw"),
    "moving.gif": moving,
    "moving.png": moving,
    "moving.webp": moving,
    "talkative.jpg": talkative,
    "confused.jpg": confused,
    "behind its end.png": chatty,
    "targa.tga": saved("TGA"),
    "deep.png": deep,
    "-rf.png": saved("PNG"),
    "two\nlines.png": saved("PNG"),
    "\x1b[31mred\x07.png": saved("PNG"),
    "<script>alert(1)</script>.png".replace("/", "\u2215"): saved("PNG"),
    "%s {0} $HOME `id` 'a' \"b\".png": saved("PNG"),
    "\u202egnp.\U0001f600 \u0915\u093e.png": saved("PNG"),
    NOT_TEXT: saved("PNG"),
    f"{'long' * 60}.png": saved("PNG"),
}
"""What is strange, and a photo all the same."""


def test_what_is_odd_is_a_photo_all_the_same(photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    for number, (name, write) in enumerate(ODD.items()):
        write(photos / name, album.picture(100 + number, [number % 3]))
    # Hidden, and not looked at: what systems and other programs leave.
    for name in (".hidden.png", "._a.png"):
        (photos / name).write_bytes(b"no")
    (photos / "round").symlink_to(photos)
    made = prepared(photos, tmp_path / "set")
    assert not made.plan.dropped
    expected = {name: number % 3 for number, name in enumerate(ODD)}
    order = {some.seen.name: some.people[0].identity for some in made.plan.chosen}
    assert order.keys() == expected.keys()
    assert len({(order[name], who) for name, who in expected.items()}) == 3
    assert made.numbers["linked_folders"] == 1 and any("linked" in note for note in made.numbers["notes"])
    # Names come into the work folder alone, and do no harm there.
    text = preparation_page.write(made).read_text()
    assert "<script>alert" not in text and "\x1b" not in text
    assert NOT_TEXT.encode("utf-8", "surrogateescape") not in b"".join(
        path.read_bytes() for path in (tmp_path / "set").rglob("*.json")
    )


def test_a_folder_that_cannot_be_read_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    # Whoever runs this as root may read everything.
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"folder '.*/photos/more' cannot be read \(Permission denied\)"):
        find.sources(photos)


def test_a_photo_that_goes_meanwhile_costs_nothing_else(photos: Path, tmp_path: Path) -> None:
    stages = run.Stages.of(photos, tmp_path / "set.work", SMALL)
    (first, second, *_) = find.sources(photos).photos
    (photos / first.name).unlink()
    os.utime(photos / second.name, (1, 1))
    stages.pictures.run([first.key, second.key], 1, show=False)
    for photo in (first, second):
        assert "changed or taken away" in stages.pictures.note(photo.key)["unreadable"]
    made = prepared(photos, tmp_path / "set")
    assert first.name not in made.plan.dropped and second.name not in made.plan.dropped


def test_a_photo_that_may_be_read_again_is_looked_at_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time of change is the same; whoever runs this as root may read everything."""
    access, read_srgb = os.access, find.read_srgb

    def reading(path: Path) -> np.ndarray:
        if path.name == "a.png":
            raise UserError(f"photo '{path}' cannot be read: Permission denied.")
        return read_srgb(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path).name != "a.png" and access(path, mode))
        patch.setattr(find, "read_srgb", reading)
        made = prepared(photos, tmp_path / "set")
        assert "Permission denied" in made.plan.dropped["a.png"]
    assert "a.png" not in prepared(photos, tmp_path / "set").plan.dropped
