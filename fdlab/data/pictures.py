"""Pictures on disk: RGB uint8 arrays in and out. B batch, H W pixels, 3 RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fdlab.errors import UserError
from fdlab.files import whole


def write_png(path: Path, image_HW3: np.ndarray, text: Mapping[str, str] | None = None) -> None:
    """Write a uint8 RGB picture as PNG with text chunks, whole or not at all."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    with whole(path, flush=False) as temporary:
        Image.fromarray(image_HW3).save(temporary, format="PNG", pnginfo=info)


def read_image(path: Path, size: int | None = None) -> np.ndarray:
    """Read a picture as RGB uint8 (H, W, 3). UserError if it is missing, broken, not square at `size`, or not
    RGB."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"image '{path}' is missing.")
    try:
        with Image.open(path) as opened:
            opened.load()
            if opened.mode != "RGB":
                raise UserError(f"image '{path}' has mode {opened.mode}; allowed: RGB (no grey, no alpha).")
            image = np.asarray(opened)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"image '{path}' cannot be read: {error}.") from error
    if size is not None and image.shape[:2] != (size, size):
        raise UserError(
            f"image '{path}' is {image.shape[1]} x {image.shape[0]}; the benchmark asks for {size} x {size}."
        )
    return image


def read_images(paths: Sequence[Path], size: int | None = None) -> np.ndarray:
    """Read pictures of one size into images_BHW3 uint8."""
    images = [read_image(path, size) for path in paths]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise UserError(f"images of several sizes in '{paths[0].parent}': {sorted(shapes)}; they must agree.")
    return np.stack(images)
