"""Where a picture shows people: a matting that ships, of any picture, in that picture's own size.

Axes: B pictures, H W pixels, S = 256 pixels, 3 RGB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdlab.assets import resolve
from fdlab.errors import UserError
from fdlab.measure.matting_net import MattingNet
from fdlab.measure.resize import resize, to_float
from fdlab.measure.weights import fill, freeze, load_state, weight_sha256

SHIPPED = "asset:matting/selfie"
WEIGHTS = "model.safetensors"
SIZE = 256
"""Pixels a side that the network was trained at. Pictures are stretched to it, as its makers do."""


class PersonMatting(nn.Module):
    """MediaPipe's general selfie segmentation. sha256: of its weights, for records."""

    name = "selfie"
    version = "1"

    def __init__(self, network: MattingNet, sha256: str = "") -> None:
        super().__init__()
        self.network, self.sha256 = network, sha256

    @classmethod
    def load(cls, source: Path | str = SHIPPED, device: torch.device | str = "cpu") -> PersonMatting:
        """Read weights, frozen, in evaluation mode.

        source: a file of tensors named as `MattingNet` names them, or a folder with `model.safetensors`.
        Raises: UserError for weights that are missing, broken or another network's.
        """
        path = resolve(source)
        file = path / WEIGHTS if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"the matting's weights '{file}' are not there; what ships is '{SHIPPED}'.")
        network = MattingNet()
        fill(network, load_state(file), file, "the person matting")
        matting = cls(network, weight_sha256(file))
        freeze(matting, device)
        return matting

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 to (B, H, W) in 0..1: how far each pixel shows a person."""
        size = image_B3HW.shape[-2:]
        matte_BSS = self.network(resize(image_B3HW, (SIZE, SIZE), "bilinear") / 255)
        if tuple(size) == (SIZE, SIZE):
            return matte_BSS
        return F.interpolate(matte_BSS[:, None], size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)

    @torch.no_grad()
    def matte(self, image_HW3: np.ndarray) -> np.ndarray:
        """float32 (H, W) in 0..1 of one uint8 RGB picture of any size. Raises: UserError for another
        layout."""
        device = next(self.network.parameters()).device
        # A copy: torch warns of what cannot be written to.
        return self(to_float(np.array(image_HW3)[None], device))[0].cpu().numpy()
