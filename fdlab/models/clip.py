"""A whole CLIP model (both towers) from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fdlab.errors import UserError
from fdlab.models.quiet import without_bars
from fdlab.weights import formats
from fdlab.weights.files import check_finite


def load_clip(folder: Path | str) -> Any:
    """Read transformers' CLIPModel, fp32 and from safetensors only, without a bar for what takes a blink.

    Raises: UserError for a folder that is broken, lacks tensors, or has some that are not finite.
    """
    import torch
    from transformers import CLIPModel

    formats.read_bounded(Path(folder) / "config.json")
    try:
        with without_bars():
            model, found = CLIPModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:
        # The reader is somebody else's: any error may come of a broken folder.
        raise UserError(f"the CLIP model in '{folder}' cannot be read: {formats.one_line(error)}.") from error
    if found["missing_keys"]:
        # Else these would be drawn at random.
        raise UserError(f"the CLIP model in '{folder}' lacks tensor '{min(found['missing_keys'])}'.")
    check_finite(model.state_dict(), folder)
    return model
