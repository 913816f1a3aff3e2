"""CLIP features from an open_clip folder (optional: pip install 'fdlab[open-clip]').

Axes: B pictures or prompts, L tokens, D projection width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdlab.errors import UserError
from fdlab.files import sha256
from fdlab.measure.extractors.batches import in_batches
from fdlab.measure.extractors.clip import CHANNELS, CLIP_MEAN, CLIP_STD, TextFeatures
from fdlab.measure.resize import resize, resize_and_crop
from fdlab.measure.weights import fill, load_tensors
from fdlab.weights import formats

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
HUB: formats.Schema = dict.fromkeys(("model_cfg", "preprocess_cfg"), formats.Key((dict,)))
PREPROCESS: formats.Schema = {
    "mean": CHANNELS,
    "std": CHANNELS,
    **dict.fromkeys(("resize_mode", "interpolation"), formats.Key((str,))),
}
MODEL: formats.Schema = {"embed_dim": formats.Key((int,), low=1), "vision_cfg": formats.Key((dict,))}
VISION: formats.Schema = {"image_size": formats.Key((int,), low=1, high=4096)}
"""open_clip_config.json, as far as it is read."""
RESIZES = {"shortest": resize_and_crop, "squash": lambda image_B3HW, side: resize(image_B3HW, (side, side))}


class OpenClipExtractor:
    """An open_clip model as its hub repositories hold it: `open_clip_config.json` and safetensors.

    Features have unit length, as `ClipExtractor`'s. Raises: UserError when the package or a file is missing,
    or the model has another tokenizer than CLIP's own.
    """

    version = "1"

    def __init__(self, folder: Path | str, device: torch.device | str = "cpu") -> None:
        folder = Path(folder).expanduser()
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"'{folder}' has no {WEIGHTS}; weights are read from safetensors only.")
        try:
            import open_clip
        except ImportError as error:
            raise UserError(f"'{folder}' needs open_clip: pip install 'fdlab[open-clip]'.") from error
        given = formats.read(folder / CONFIG, HUB)
        settings = given.get("preprocess_cfg", {})
        formats.check(settings, PREPROCESS, folder / CONFIG)
        formats.check(given.get("model_cfg", {}), MODEL, folder / CONFIG)
        formats.check(given.get("model_cfg", {}).get("vision_cfg", {}), VISION, folder / CONFIG)
        self.device = torch.device(device)
        self.name, self.sha256 = f"open_clip:{folder.name}", sha256(folder / WEIGHTS)
        where = f"local-dir:{folder}"
        try:
            self.model = open_clip.create_model(where, load_weights=False, pretrained_text=False)
            self.tokenizer = open_clip.get_tokenizer(where)
        except Exception as error:
            # The reader is somebody else's: any error may come of a broken file.
            raise UserError(f"the model in '{folder}' cannot be read: {formats.one_line(error)}.") from error
        fill(self.model, load_tensors(folder / WEIGHTS), folder / WEIGHTS, f"its {CONFIG}")
        self.model.to(self.device).eval().requires_grad_(False)
        if not isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            raise UserError(f"'{folder}' has another tokenizer than CLIP's; give it in transformers' format.")
        self.dim = int(given["model_cfg"]["embed_dim"])
        self.image_size = int(given["model_cfg"]["vision_cfg"].get("image_size", 224))
        mode = settings.get("resize_mode", "shortest")
        if mode not in RESIZES or settings.get("interpolation", "bicubic") != "bicubic":
            raise UserError(f"'{folder / CONFIG}' resizes pictures by '{mode}', not as CLIP does (bicubic).")
        self._fit = RESIZES[mode]
        mean, std = settings.get("mean", CLIP_MEAN), settings.get("std", CLIP_STD)
        self._mean_3 = torch.tensor(mean, device=self.device)[:, None, None] * 255
        self._std_3 = torch.tensor(std, device=self.device)[:, None, None] * 255

    def __call__(self, images_BHW3: np.ndarray | Tensor) -> Tensor:
        """Unit-length features (B, D) of uint8 RGB pictures of any one size."""
        return in_batches(self._image, images_BHW3, self.dim, self.device)

    def _image(self, image_B3HW: Tensor) -> Tensor:
        pixel_B3SS = (self._fit(image_B3HW, self.image_size) - self._mean_3) / self._std_3
        return self.model.encode_image(pixel_B3SS, normalize=True)

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> TextFeatures:
        """Unit-length features (B, D) of prompts; one too long is cut before its end token and counted."""
        room = self.tokenizer.context_length - 2
        truncated_B = torch.tensor(
            [len(self.tokenizer.encode(text)) > room for text in prompts], dtype=torch.bool
        )
        if not prompts:
            return TextFeatures(torch.zeros(0, self.dim), truncated_B)
        token_BL = self.tokenizer(list(prompts)).to(self.device)
        return TextFeatures(self.model.encode_text(token_BL, normalize=True).cpu(), truncated_B)
