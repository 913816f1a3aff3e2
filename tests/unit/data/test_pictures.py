"""The one reader of pictures: every mode upright and as it is seen, every broken file one line."""

from __future__ import annotations

import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fdlab.data import pictures
from fdlab.data.pictures import on_white, open_photo, plain, read_image, read_photo
from fdlab.errors import UserError

RAMP_HW = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.fixture
def photo_HW3() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff"])
def test_rgb_comes_out_as_pillow_decodes_it(tmp_path: Path, photo_HW3: np.ndarray, name: str) -> None:
    path = saved(Image.fromarray(photo_HW3), tmp_path / name)
    with Image.open(path) as oracle:
        expected_HW3 = np.asarray(oracle.convert("RGB"))
    for read_HW3 in (read_photo(path), read_image(path), np.asarray(open_photo(path))):
        np.testing.assert_array_equal(read_HW3, expected_HW3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Quadrants of four greys, laid down as a camera held that way lays them (EXIF 2.32, 4.6.4A)."""
    corners = np.array([[40, 90], [140, 190]])
    upright_HW = np.kron(corners, np.ones((8, 16))).astype(np.uint8)
    lay = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    laid = Image.fromarray(np.ascontiguousarray(lay(upright_HW))).convert("RGB")
    path = saved(laid, tmp_path / f"a{suffix}", exif=exif)
    for read in (read_photo, read_image, lambda p: on_white(open_photo(p))):
        assert np.abs(read(path)[..., 0].astype(int) - upright_HW).max() < 12


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff"]
)
def test_a_broken_exif_block_turns_nothing(tmp_path: Path, photo_HW3: np.ndarray, exif: bytes) -> None:
    path = saved(Image.fromarray(photo_HW3), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_photo(path), photo_HW3)


GREYS = [
    ("16 bits", (RAMP_HW * 65535).round().astype(np.uint16), "png"),
    ("16 bits, the other order", (RAMP_HW * 65535).round().astype(">u2"), "tiff"),
    ("16 bits in a PGM", (RAMP_HW * 65535).round().astype(np.uint16), "ppm"),
    ("32 bits that hold 16", (RAMP_HW * 65535).round().astype(np.int32), "tiff"),
    ("32 bits that hold 8", (RAMP_HW * 255).round().astype(np.int32), "tiff"),
    ("floats to 1", RAMP_HW.astype(np.float32), "tiff"),
    ("floats to 255", (RAMP_HW * 255).astype(np.float32), "tiff"),
    ("floats to 65535", (RAMP_HW * 65535).astype(np.float32), "tiff"),
]


@pytest.mark.parametrize(
    ("values_HW", "suffix"), [case[1:] for case in GREYS], ids=[case[0] for case in GREYS]
)
def test_grey_of_many_bits_is_scaled_and_not_clipped(
    tmp_path: Path, values_HW: np.ndarray, suffix: str
) -> None:
    path = saved(Image.fromarray(values_HW), tmp_path / f"a.{suffix}")
    expected_HW = (RAMP_HW * 255).round()
    read_HW3 = read_photo(path).astype(int)
    assert (read_HW3 == read_HW3[..., :1]).all()
    assert np.abs(read_HW3[..., 0] - expected_HW).max() <= 1
    assert (read_HW3[0, 0] == 0).all() and (read_HW3[-1, -1] == 255).all()


@pytest.mark.parametrize("values", [[0, 255, 256], [0, 65535, 1000]])
def test_white_is_the_first_that_no_pixel_exceeds(tmp_path: Path, values: list[int]) -> None:
    path = saved(Image.fromarray(np.array([values], np.int32)), tmp_path / "a.tiff")
    assert read_photo(path)[0, :, 0].tolist() == [round(value / 65535 * 255) for value in values]


@pytest.mark.parametrize("value", [np.nan, -1.0, 65536.0, 1e9, np.inf])
def test_numbers_that_are_no_brightness_are_refused(tmp_path: Path, value: float) -> None:
    values_HW = np.ones((4, 4), np.float32)
    values_HW[1, 2] = value
    path = saved(Image.fromarray(values_HW), tmp_path / "a.tiff")
    with pytest.raises(UserError, match=r"a\.tiff' has values from .*; allowed: 0 to 1, to 255 or to 65535"):
        read_photo(path)


def half_hidden(mode: str) -> Image.Image:
    """Left a colour under no alpha at all, right grey 100 and opaque."""
    image = Image.new("RGBA", (8, 4), (0, 200, 0, 0))
    image.paste((100, 100, 100, 255), (4, 0, 8, 4))
    if mode in ("RGBA", "LA"):
        return image.convert(mode)
    if mode == "PA":
        made = image.convert("L").convert("PA")
        made.putalpha(image.getchannel("A"))
        return made
    flat = image.convert("RGB")
    if mode == "P":
        flat = flat.quantize(2)
        flat.info["transparency"] = flat.getpixel((0, 0))
    elif mode == "RGB":
        flat.info["transparency"] = (0, 200, 0)
    elif mode == "L":
        flat = flat.convert("L")
        flat.info["transparency"] = flat.getpixel((0, 0))
    elif mode == "I;16":
        values_HW = np.full((4, 8), 100 * 257, np.uint16)
        values_HW[:, :4] = 40000
        flat = Image.fromarray(values_HW)
        flat.info["transparency"] = 40000
    return flat


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, "png") for mode in ("RGBA", "LA", "P", "RGB", "L", "I;16")]
    + [("P", "gif"), ("RGBA", "tiff"), ("PA", "tiff")],
)
def test_what_is_transparent_shows_white_and_never_its_colour(tmp_path: Path, mode: str, suffix: str) -> None:
    path = saved(
        image := half_hidden(mode), tmp_path / f"a.{suffix}", transparency=image.info.get("transparency")
    )
    read_HW3 = read_photo(path)
    assert (read_HW3[:, :4] == 255).all(), "a hidden colour shows"
    assert (read_HW3[:, 4:] == 100).all()
    with pytest.raises(UserError, match=r"has mode .*; allowed: RGB"):
        read_image(path)
    assert open_photo(path).mode == "RGBA", "a pipeline cuts a subject out by its alpha"


@pytest.mark.parametrize("alpha", [0, 1, 77, 128, 254, 255])
def test_half_transparent_is_laid_on_white(alpha: int) -> None:
    read_HW3 = on_white(Image.new("RGBA", (2, 2), (200, 10, 90, alpha)))
    expected = np.array([200, 10, 90]) * alpha / 255 + 255 - alpha
    assert np.abs(read_HW3 - expected).max() <= 0.51


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBa", "La", "RGBX", "I;16", "I", "F"]
)
def test_every_mode_of_pillow_keeps_its_colour(mode: str) -> None:
    colour = {
        "LAB": (240, 128, 128), "I;16": 60_000, "I": 60_000, "F": 0.93, "La": (235, 255),
        "RGBa": (235, 235, 235, 255),
    }.get(mode)  # fmt: skip
    white = Image.new("RGB", (3, 3), (235, 235, 235))
    image = white.convert(mode) if colour is None else Image.new(mode, (3, 3), colour)
    assert 225 < on_white(image).mean() <= 255


def test_a_picture_made_plain_is_not_turned_again(photo_HW3: np.ndarray) -> None:
    image = Image.fromarray(photo_HW3)
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    image.info["exif"] = exif.tobytes()
    once = plain(image)
    assert once.size == (6, 9) and plain(once).size == (6, 9) and image.size == (9, 6)


def header(width: int, height: int) -> bytes:
    """A PNG that promises a black picture and holds one row's worth of it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    # Enough of the data: it is never decoded.
    data = zlib.compress(bytes(min(width, 100_000) + 1))
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size", [(13_000, 13_000), (8001, 8000), (64_000_001, 1), (100_000, 100_000), (2**31 - 1,) * 2]
)
def test_more_pixels_than_memory_should_hold_are_refused_undecoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(header(*size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_photo, read_image):
        with pytest.raises(UserError, match=r"a\.png' is .*; at most 64 million pixels are read") as raised:
            read(path)
        assert "\n" not in str(raised.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes: it was decoded"


def test_as_many_pixels_as_allowed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 200)
    assert read_photo(saved(Image.new("L", (20, 10)), tmp_path / "a.png")).shape == (10, 20, 3)
    with pytest.raises(UserError, match="is 20 x 11; at most"):
        read_photo(saved(Image.new("L", (20, 11)), tmp_path / "a.png"))
    with pytest.raises(UserError, match="the picture is 20 x 11; at most"):
        plain(Image.new("L", (20, 11)))


def test_no_program_is_run_for_a_picture(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 8)), tmp_path / "a.png", format="EPS")
    with pytest.raises(UserError, match=r"a\.png' is EPS; allowed: AVIF, BMP"):
        read_photo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "is missing"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.symlink_to(p.with_name("nowhere")), "is missing"),
        (lambda p: p.write_bytes(b""), "cannot be read: no picture of a known format"),
        (lambda p: p.write_text("hello"), "cannot be read: no picture of a known format"),
        (lambda p: p.write_bytes(header(0, 20)), "cannot be read: "),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_one_line_that_names_it(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "a.jpg")
    for read in (read_photo, read_image, open_photo):
        with pytest.raises(UserError, match=rf"^\w+ '{tmp_path}/a\.jpg' {message}") as raised:
            read(tmp_path / "a.jpg")
        assert "\n" not in str(raised.value) and "\n" not in str(raised.value.__cause__ or "")


def test_a_path_of_the_user_s_home_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(Image.new("RGB", (2, 3)), tmp_path / "a.png")
    assert read_photo("~/a.png").shape == (3, 2, 3)
    with pytest.raises(UserError, match=r"photo '~nobody-of-this-name/a\.png' cannot be read"):
        read_photo("~nobody-of-this-name/a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp", "ppm", "tga", "jp2", "avif"])
def test_damaged_pictures_are_read_or_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = saved(Image.fromarray(rng.integers(0, 256, (12, 17, 3), np.uint8)), tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    for case in range(40):
        data = bytearray(whole)
        if case % 4 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            for _ in range(case % 4):
                # Headers break in more ways than pixels do.
                place = int(len(data) * rng.random() ** 3)
                data[place] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            image_HW3 = read_photo(path)
        except UserError as error:
            assert str(error).count("\n") == 0 and f"a.{suffix}" in str(error)
        else:
            assert image_HW3.ndim == 3 and image_HW3.dtype == np.uint8
