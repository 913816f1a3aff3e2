"""The face detector as evaluation uses it: uint8 pictures in, faces out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fdlab.errors import UserError
from fdlab.measure.faces.face import Face
from fdlab.measure.faces.mtcnn import WEIGHTS, Cascade, CascadeSettings
from fdlab.measure.resize import to_float
from fdlab.measure.weights import SHIPPED, freeze, load_tensors, weight_sha256

PIXELS_AT_ONCE = 1 << 22
"""Bounds memory: so many picture pixels go through the cascade at once (256 pictures of 128 px)."""


class FaceDetector:
    """MTCNN with five landmarks. Holds its network outside any module tree, frozen, in evaluation mode.

    min_face: the smallest face looked for, as a fraction of the picture's shorter side, in (0, 1].
    """

    name = "mtcnn"
    version = "1"

    def __init__(
        self, device: torch.device | str = "cpu", min_face: float = CascadeSettings.min_face
    ) -> None:
        if not 0 < min_face <= 1:
            raise UserError(
                f"min_face is {min_face}; it is a fraction of the picture's shorter side in (0, 1]."
            )
        self.device = torch.device(device)
        self.sha256 = weight_sha256(SHIPPED / WEIGHTS)
        self.cascade = Cascade(CascadeSettings(min_face=min_face))
        self.cascade.load_state_dict(load_tensors(SHIPPED / WEIGHTS))
        freeze(self.cascade, self.device)

    def __call__(self, images_BHW3: np.ndarray | Tensor | Sequence[np.ndarray]) -> list[list[Face]]:
        """Find the faces of uint8 RGB pictures: per picture a list, falling in score.

        A list may hold pictures of several sizes; pictures of one size are batched.
        """
        if not isinstance(images_BHW3, np.ndarray | Tensor):
            return self._of_many_sizes(images_BHW3)
        image_B3HW = to_float(images_BHW3, self.device)
        height, width = image_B3HW.shape[-2:]
        faces: list[list[Face]] = []
        for some in image_B3HW.split(max(1, PIXELS_AT_ONCE // (height * width))):
            faces += self.cascade(some)
        return faces

    def _of_many_sizes(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(tuple(image.shape), []).append(index)
        faces: list[list[Face]] = [[] for _ in images]
        for rows in groups.values():
            found = self(torch.stack([torch.as_tensor(images[row]) for row in rows]))
            for row, some in zip(rows, found, strict=True):
                faces[row] = some
        return faces
