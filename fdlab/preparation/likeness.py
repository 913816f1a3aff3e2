"""Pictures that look alike: 256 bits a picture, and how many of them differ.

The bits say which of the lowest 16 x 16 frequencies of a small grey copy lie above their median (a perceptual
hash as in Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"). Other sizes,
qualities and brightness change few of them.
Axes: H W pixels, 3 RGB, N pictures, K bytes of a hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn

SIDE, LOW = 64, 16
BITS = LOW * LOW
BLOCK = 512
"""Pictures that are compared with all at once; bounds memory."""


def look_of(image_HW3: np.ndarray) -> str:
    """A picture's 256 bits as hexadecimal digits."""
    grey = Image.fromarray(image_HW3).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    low = dctn(np.asarray(grey, np.float64), norm="ortho")[:LOW, :LOW].ravel()
    # The mean brightness says nothing, and would shift the median.
    return np.packbits(low > np.median(low[1:])).tobytes().hex()


def duplicates(looks: Sequence[str], most_bits: int) -> list[int | None]:
    """For each picture, the earlier one that it is a duplicate of, which is none itself; None: it is kept.

    `looks` in the order in which pictures are preferred; of several the nearest counts, of equals the first.
    """
    bits_NK = np.array([np.frombuffer(bytes.fromhex(look), np.uint8) for look in looks]).reshape(
        -1, BITS // 8
    )
    words_NK = bits_NK.view(np.uint64)
    found: list[int | None] = [None] * len(looks)
    for start in range(0, len(looks), BLOCK):
        block = words_NK[start : start + BLOCK]
        differ_BN = np.zeros((len(block), start + len(block)), np.uint16)
        for column in range(words_NK.shape[1]):
            earlier = words_NK[: start + len(block), column]
            differ_BN += np.bitwise_count(block[:, column, None] ^ earlier[None])
        for b, row in enumerate(differ_BN):
            near = [int(n) for n in np.flatnonzero(row[: start + b] <= most_bits) if found[n] is None]
            if near:
                found[start + b] = min(near, key=lambda n: (row[n], n))
    return found
