"""FID's own features, from weights that the user brings: the Inception of 2015.

Axes: B pictures, H W pixels, D = 2048.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fdlab.errors import UserError
from fdlab.evaluation.extractors.extractor import in_batches
from fdlab.evaluation.extractors.inception_net import Inception2015
from fdlab.evaluation.extractors.resize import resize
from fdlab.files import sha256

STATE_DICT = "pt_inception-2015-12-05-6726825d.pth"
STATE_DICT_SHA256_STARTS = "6726825d"
STATE_DICT_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{STATE_DICT}"
TORCHSCRIPT = "inception-2015-12-05.pt"
TORCHSCRIPT_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{TORCHSCRIPT}"


class ScriptedTrunk(nn.Module):
    """The layers of NVIDIA's TorchScript file, behind the same scaling; its own resize is not antialiased."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.layers = script.layers

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, 3, 299, 299) float RGB in 0..255 to (B, 2048)."""
        return self.layers((image_B3HW - 128) / 128).flatten(1)


class InceptionExtractor:
    """Features for FID, after clean-fid's resize (bicubic, antialiased, floats).

    path: the state dict or the TorchScript file. The name is `inception_2015` for the known state dict and
    says so when the weights are others. UserError when the file is missing or holds another network.
    """

    version = "1"
    dim = 2048
    SIZE = 299

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(
                f"FID needs the Inception of 2015: '{path}' does not exist. Download {STATE_DICT} from "
                f"{STATE_DICT_URL} (or {TORCHSCRIPT} from {TORCHSCRIPT_URL}) and give its path."
            )
        self.device = torch.device(device)
        self.sha256 = sha256(path)
        if _is_torchscript(path):
            self.name = "inception_2015_torchscript"
            self.network: nn.Module = _from_torchscript(path)
        else:
            known = self.sha256.startswith(STATE_DICT_SHA256_STARTS)
            self.name = "inception_2015" if known else "inception_unknown_weights"
            self.network = _from_state_dict(path)
        self.network.to(self.device).eval().requires_grad_(False)

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Features (B, 2048) of uint8 RGB pictures of any one size."""
        return in_batches(
            lambda image: self.network(resize(image, (self.SIZE, self.SIZE))),
            images_BHW3, self.dim, self.device,
        )  # fmt: skip


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _from_torchscript(path: Path) -> ScriptedTrunk:
    with warnings.catch_warnings():
        # The file of 2020 exists in no newer format; torch still reads it.
        warnings.filterwarnings("ignore", "`torch.jit.load`", DeprecationWarning)
        script = torch.jit.load(path, map_location="cpu")
    if not hasattr(script, "layers"):
        raise UserError(f"'{path}' holds another network than NVIDIA's {TORCHSCRIPT}.")
    return ScriptedTrunk(script)


def _from_state_dict(path: Path) -> Inception2015:
    network = Inception2015()
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: value for name, value in state.items() if not name.startswith(("fc.", "AuxLogits."))}
    # Older files lack the batch counters, which evaluation does not read.
    state |= {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"'{path}' holds another network than the Inception of 2015 ({STATE_DICT})."
        ) from error
    return network
