"""FID's own features, from weights that the user brings: the Inception of 2015.

Axes: B pictures, H W pixels, D = 2048.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.measure.extractors.batches import in_batches
from fdlab.measure.extractors.inception_net import Inception2015
from fdlab.measure.resize import resize
from fdlab.measure.weights import fill, freeze, load_state

STATE_DICT = "pt_inception-2015-12-05-6726825d.pth"
STATE_DICT_SHA256_STARTS = "6726825d"
STATE_DICT_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{STATE_DICT}"
HOW = f"Download {STATE_DICT} from {STATE_DICT_URL} and give its path."
UNUSED = ("fc.", "AuxLogits.")
NAME = "inception-2015"
"""The name under which records may call a Frechet distance FID."""


class InceptionExtractor:
    """Features for FID, after clean-fid's resize (bicubic, antialiased, floats).

    path: the state dict, as `.pth` or safetensors. The name is `inception-2015` for the known file and says
    so when the weights are others. UserError when the file is missing, is code or holds another network.
    """

    version = "1"
    dim = 2048
    SIZE = 299

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(f"FID needs the Inception of 2015: '{path}' does not exist. {HOW}")
        self.device = torch.device(device)
        self.sha256 = sha256(path)
        self.name = NAME if self.sha256.startswith(STATE_DICT_SHA256_STARTS) else "inception-unknown-weights"
        self.network = Inception2015()
        state = {k: v for k, v in load_state(path).items() if not k.startswith(UNUSED)}
        fill(self.network, state, path, f"the Inception of 2015 ({STATE_DICT})")
        freeze(self.network, self.device)

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Features (B, 2048) of uint8 RGB pictures of any one size."""
        return in_batches(
            lambda image: self.network(resize(image, (self.SIZE, self.SIZE))),
            images_BHW3, self.dim, self.device,
        )  # fmt: skip
