"""A whole CLIP model (both towers) from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_clip(folder: Path | str) -> Any:
    """Read transformers' CLIPModel, fp32 and from safetensors only, without a bar for what takes a blink."""
    import torch
    from transformers import CLIPModel
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    finally:
        if shown:
            logging.enable_progress_bar()
