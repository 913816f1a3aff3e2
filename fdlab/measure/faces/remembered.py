"""What was found in pictures, kept by their content: who is cut out of a picture and whose face is looked at
there have it in common, and a training reads it again in every epoch.

Axes: B pictures, H W pixels, 3 RGB.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from fdlab.measure.faces.detector import FaceDetector
from fdlab.measure.faces.face import Face

T = TypeVar("T")
MOST = 32_768
"""Pictures that a process remembers: with an embedding each of faceres, 134 MB."""


def digest(*arrays: np.ndarray) -> bytes:
    """Of shapes, types and contents."""
    made = hashlib.blake2b(digest_size=16)
    for array in arrays:
        made.update(f"{array.shape} {array.dtype}".encode())
        made.update(np.ascontiguousarray(array).data)
    return made.digest()


class Remembered(Generic[T]):
    """The last `most` things that were asked for, by key. Threads may share it; two may make the same."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._found: OrderedDict[bytes, T] = OrderedDict()

    def of(self, key: bytes, make: Callable[[], T]) -> T:
        """What is known under a key, or is made now."""
        found = self._found.pop(key, None)
        found = make() if found is None else found
        self._found[key] = found
        if len(self._found) > self.most:
            self._found.popitem(last=False)
        return found


class RememberingDetector:
    """Finds faces picture by picture, and in one that it has seen without looking again."""

    def __init__(self, detector: FaceDetector, most: int = MOST) -> None:
        self.detector = detector
        self._seen = Remembered[list[Face]](most)

    def __call__(self, images_BHW3: Iterable[np.ndarray]) -> list[list[Face]]:
        """As `FaceDetector`: per picture a list, falling in score."""
        return [self._of(image_HW3) for image_HW3 in images_BHW3]

    def _of(self, image_HW3: np.ndarray) -> list[Face]:
        # A copy: torch warns of what cannot be written to.
        found = self._seen.of(digest(image_HW3), lambda: self.detector(np.array(image_HW3)[None])[0])
        return list(found)


@lru_cache(maxsize=1)
def usual_detector() -> RememberingDetector:
    """The one of this process."""
    return RememberingDetector(FaceDetector())
